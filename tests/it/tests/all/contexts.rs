//! How a broker in development mode says where it can be found.
use yard_it::{Scratch, Server, ServerOptions, yard};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_says_whether_commands_use_it() {
    let scratch = Scratch::new("contexts").unwrap();
    let started = async |data: &str, chosen: &str| {
        let data = scratch.path().join(data);
        let chosen = format!("YARD_CONTEXT={}", scratch.path().join(chosen).display());
        let mut options = ServerOptions::new(yard::locate(None).unwrap());
        (options.data, options.under) = (Some(data), vec!["env".to_owned(), chosen]);
        Server::start(options).await.unwrap().log()
    };
    let own = started("own", "own/../own/context.toml").await;
    assert!(own.contains("\ncommands use it (YARD_CONTEXT)\n"), "{own}");
    let other = started("other", "own/context.toml").await;
    assert!(other.contains("own/context.toml (YARD_CONTEXT); for this broker give"), "{other}");
    assert!(scratch.path().join("own.home").is_dir(), "saved where its contexts are");
}
