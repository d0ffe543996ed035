//! Large paid orders from Europe.
use switchyard_plugin::prelude::*;

manifest! { says: "Large paid orders.", points: ["filter"], tests: "tests/vectors.json" }
filter!(big_orders);

fn big_orders(m: &Message) -> bool {
    m.tag() == "paid" && m.get("region") == Some("eu") && m.number("amount") > Some(100.0)
}

#[test]
fn keeps_only_big_european_orders() {
    let order = |amount| {
        Message::builder().tag("paid").property("region", "eu").property("amount", amount).build()
    };
    assert!(big_orders(&order(150)) && !big_orders(&order(50)));
}
