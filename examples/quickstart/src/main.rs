//! Sends three messages and receives them.
//!
//! ```text
//! yard dev                                          in one terminal
//! cargo run -p quickstart -- path/to/context.toml   in another, with the file that it names
//! ```
use std::error::Error;

use serde::Deserialize;
use yard_client::wire::operation::TopicCreate;
use yard_client::{Client, Code, Context, Message, Start};

/// A context as `yard dev` saves it.
#[derive(Deserialize)]
struct Saved {
    addresses: Vec<String>,
    server_name: Option<String>,
    #[serde(default)]
    tenant: String,
    authority: String,
    certificate: Option<String>,
    key: Option<String>,
}

fn read(path: &str) -> Result<Context, Box<dyn Error>> {
    let saved: Saved = toml::from_str(&std::fs::read_to_string(path)?)?;
    Ok(Context {
        addresses: saved.addresses,
        authority_pem: saved.authority,
        certificate_pem: saved.certificate,
        key_pem: saved.key,
        server_name: saved.server_name,
        tenant: saved.tenant,
        ..Context::default()
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: quickstart CONTEXT.toml")?;
    let client = Client::builder().context(read(&path)?).name("quickstart").connect().await?;

    let topic = TopicCreate { name: "quickstart".into(), queues: 8, ..TopicCreate::default() };
    match client.admin().call(topic).await {
        Err(error) if error.code != Code::TopicExists => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }

    let producer = client.producer("quickstart").build().await?;
    for number in 1..=3 {
        let message = Message::new(format!("hello {number}")).key("greeting").tag("hello");
        let sent = producer.send(message).await?;
        let offset = sent.offset.expect("what is not delayed has a place");
        println!("sent      {} to queue {}, offset {offset}", sent.id, sent.queue);
    }

    let mut consumer =
        client.consumer("quickstart", "readers").start(Start::Earliest).build().await?;
    for _ in 1..=3 {
        let delivery = consumer.recv().await?;
        println!("received  {} {}", delivery.id(), String::from_utf8_lossy(&delivery.body()?));
        delivery.ack().await?;
    }
    client.close().await;
    Ok(())
}
