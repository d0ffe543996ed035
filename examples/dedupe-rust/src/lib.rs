//! The same flight is a duplicate, whoever reports it and however it is written.
use switchyard_plugin::prelude::*;

manifest! {
    says: "One message for each flight.",
    points: ["dedupe"],
    config: [{ name: "days", kind: "integer", says: "for how long; 2 if not set" }],
    tests: "tests/vectors.json",
}
dedupe!(type Flights);

/// What is known of the setting.
#[derive(Clone, Debug)]
pub struct Flights {
    days: u64,
}

impl Dedupe for Flights {
    fn open(config: &Config) -> Result<Self, String> {
        let days = config.parse("days")?.unwrap_or(2);
        if !(1..=30).contains(&days) {
            return Err(format!("{days} days: expected 1 to 30"));
        }
        Ok(Self { days })
    }

    fn policy(&self) -> Policy {
        Policy::hours(24 * self.days)
    }

    fn key(&self, m: &Message<'_>, key: &mut Vec<u8>) {
        let fields = ["carrier", "flight", "time_hour", "origin"].map(|name| m.get(name));
        let [Some(carrier), Some(flight), Some(hour), Some(origin)] = fields else {
            return; // Not a flight: never a duplicate.
        };
        let carrier = carrier.to_ascii_uppercase();
        let flight = flight.trim_start_matches('0');
        key.extend_from_slice(format!("{carrier}{flight}/{hour}/{origin}").as_bytes());
    }
}

#[test]
fn a_flight_is_the_same_however_it_is_written() {
    let key = |carrier: &str, flight: &str| {
        let m = Message::builder().property("carrier", carrier).property("flight", flight);
        let m = m.property("time_hour", "2013-01-01T10:00:00Z").property("origin", "EWR");
        let mut key = Vec::new();
        Flights { days: 2 }.key(&m.build(), &mut key);
        key
    };
    assert_eq!(key("ua", "0015"), key("UA", "15"));
    assert_ne!(key("UA", "15"), key("UA", "16"));
}
