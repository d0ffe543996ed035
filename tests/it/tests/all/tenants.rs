//! Who may see what.
use yard_client::wire::operation::{
    BrokerInfo, ClientLs, GroupInfo, GroupLs, TenantAdd, TenantLs, TopicInfo, TopicLs, TopicRm,
};
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Code, Context, Error, MessageId, Timestamp, Wanted};
use yard_it::tenant;
use yard_server::config::Settings;
use yard_transport::Authority;

use super::local::*;

struct Two {
    broker: Broker,
    operator: Client,
    acme: Client,
    globex: Client,
}

async fn two() -> Two {
    let broker = Broker::with_shards(2).await;
    let operator = broker.client().await;
    let add = async |name| {
        client_of(tenant::add(&operator, &broker.context(), name, false).await.unwrap()).await
    };
    let (acme, globex) = (add("acme").await, add("globex").await);
    Two { operator, acme, globex, broker }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_names_belong_to_each_tenant() {
    let Two { broker, operator, acme, globex } = two().await;
    for client in [&acme, &globex] {
        create(client, "orders", 2).await;
    }
    send_all(&acme, "orders", vec!["of acme".into()]).await;
    send_all(&globex, "orders", vec!["of globex".into()]).await;
    for (client, expect) in [(&acme, "of acme"), (&globex, "of globex")] {
        assert_eq!(fetch_all(client, "orders").await, [expect]);
        let mut orders = consumer(client, "orders", "billing").await;
        let delivery = next(&mut orders).await;
        assert_eq!(text(&delivery), expect);
        delivery.ack().await.unwrap();
        let report = settled(client, "billing").await;
        assert_eq!(report.queues.iter().map(|row| row.end.0).sum::<u64>(), 1, "one message");
    }
    // One removes its own; the other's stays.
    acme.admin().call(TopicRm { name: "orders".to_owned() }).await.unwrap();
    assert_eq!(fetch_all(&globex, "orders").await, ["of globex"]);
    refused(operator.route("orders").await, Code::UnknownTopic);
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_name_is_refused_exactly_like_a_missing_one() {
    let Two { operator, acme, globex, broker } = two().await;
    create(&acme, "secret-orders", 1).await;
    send_all(&acme, "secret-orders", numbered(3)).await;
    let mut orders = consumer(&acme, "secret-orders", "secret-billing").await;
    take(&mut orders, 3).await;
    // The two names have the same length, so that the answers can be compared byte by byte.
    let (foreign, missing) = ("secret-orders", "nobody-orders");
    let (foreign_group, missing_group) = ("secret-billing", "nobody-billing");
    let check = |what: &str, one: Error, other: Error| {
        let same = one.detail.replace("secret", "nobody") == other.detail;
        assert!(one.code == other.code && same, "{what}: {one} / {other}");
        assert_eq!(one.retry_after, other.retry_after, "{what}");
    };
    for client in [&globex, &operator] {
        let route = async |name| client.route(name).await.unwrap_err();
        check("route", route(foreign).await, route(missing).await);
        let fetch = async |name: &str| {
            client.fetch(name, QueueIndex(0), QueueOffset(0), 1).await.unwrap_err()
        };
        check("fetch", fetch(foreign).await, fetch(missing).await);
        let seek =
            async |name: &str| client.seek(name, QueueIndex(0), Timestamp(0)).await.unwrap_err();
        check("seek", seek(foreign).await, seek(missing).await);
        let find = async |name: &str| {
            let (from, to) = (Timestamp(0), Timestamp(u64::MAX));
            let wanted = Wanted::Key { topic: name.to_owned(), key: "k".to_owned(), from, to };
            client.find(wanted, None, 1).await.unwrap_err()
        };
        check("find", find(foreign).await, find(missing).await);
        let info = async |name: &str| {
            client.admin().call(TopicInfo { name: name.to_owned() }).await.unwrap_err()
        };
        check("topic info", info(foreign).await, info(missing).await);
        let remove = async |name: &str| {
            client.admin().call(TopicRm { name: name.to_owned() }).await.unwrap_err()
        };
        check("topic rm", remove(foreign).await, remove(missing).await);
        let group = async |name: &str| {
            client.admin().call(GroupInfo { name: name.to_owned() }).await.unwrap_err()
        };
        check("group info", group(foreign_group).await, group(missing_group).await);
        let subscribe =
            async |name: &str| client.consumer(name, "g").build().await.map(|_| ()).unwrap_err();
        check("subscribe", subscribe(foreign).await, subscribe(missing).await);
        assert_eq!(client.admin().call(TopicLs {}).await.unwrap(), []);
        assert_eq!(client.admin().call(GroupLs {}).await.unwrap(), []);
    }
    let seen = globex.admin().call(ClientLs {}).await.unwrap();
    assert!(seen.iter().all(|row| row.tenant == "globex") && seen.len() == 1, "{seen:?}");
    assert_eq!(operator.admin().call(ClientLs {}).await.unwrap().len(), 3);
    assert_eq!(fetch_all(&acme, "secret-orders").await.len(), 3);
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_id_is_answered_exactly_like_a_missing_one() {
    let Two { operator, acme, globex, broker } = two().await;
    create(&acme, "orders", 2).await;
    let producer = acme.producer("orders").build().await.unwrap();
    let sent = producer.send("of acme".into()).await.unwrap();
    let missing = MessageId::new(Timestamp(1), 2);
    let find = async |client: &Client, id| client.find(Wanted::Id(id), None, 9).await.unwrap();
    assert_eq!(find(&acme, sent.id).await.messages[0].offset, sent.offset.unwrap());
    for client in [&globex, &operator] {
        let found = find(client, sent.id).await;
        assert_eq!(found.messages, []);
        // Where it was looked, not until when: the log's own groups go on.
        let other = find(client, missing).await;
        assert_eq!((found.next, other.messages), (other.next, vec![]));
        assert_eq!(found.covered.segments, other.covered.segments);
    }
    // Removed, it is nobody's any more.
    acme.admin().call(TopicRm { name: "orders".to_owned() }).await.unwrap();
    assert_eq!(find(&acme, sent.id).await.messages, []);
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_operations_are_for_operators() {
    let Two { operator, acme, broker, .. } = two().await;
    let (_, request) = tenant::key_and_request().unwrap();
    let add = TenantAdd { name: "evil".to_owned(), auto_create_topics: false, request };
    refused(acme.admin().call(add).await, Code::Forbidden);
    refused(acme.admin().call(TenantLs {}).await, Code::Forbidden);
    refused(acme.admin().call(BrokerInfo {}).await, Code::Forbidden);
    let rows = operator.admin().call(TenantLs {}).await.unwrap();
    let mut names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["acme", "default", "globex"]);
    let (_, request) = tenant::key_and_request().unwrap();
    let add = async |name: &str, request: String| {
        let (name, auto_create_topics) = (name.to_owned(), false);
        operator.admin().call(TenantAdd { name, auto_create_topics, request }).await
    };
    refused(add("acme", request.clone()).await, Code::TenantExists);
    refused(add("a/b", request).await, Code::BadName);
    refused(add("other", "no request".to_owned()).await, Code::BadArgument);
    assert_eq!(operator.admin().call(TenantLs {}).await.unwrap().len(), 3, "none was added");
    drop(broker);
}

/// Files of a broker that is not in development mode.
fn certified(settings: &mut Settings, authority: &Authority) {
    let folder = settings.data.parent().unwrap().to_owned();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let (certificate, key) = authority.issue_server(&names).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    settings.dev = false;
    settings.tls_certificate = write("server.pem", &certificate);
    settings.tls_key = write("server.key", &key);
    settings.client_authority = write("authority.pem", authority.certificate_pem());
    settings.authority_certificate = settings.client_authority.clone();
    settings.authority_key = write("authority.key", &authority.key_pem());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_certificate_nobody_enters() {
    let authority = Authority::create().unwrap();
    let broker = Broker::with(|settings| certified(settings, &authority)).await;
    let connect = async |certificate: Option<(String, String)>| {
        let (certificate_pem, key_pem) = certificate.unzip();
        let context = Context {
            authority_pem: authority.certificate_pem().to_owned(),
            certificate_pem,
            key_pem,
            ..broker.context()
        };
        Client::builder().context(context).connect().await
    };
    let issue = |authority: &Authority, tenant: &str, operator: bool| {
        let (key, request) = tenant::key_and_request().unwrap();
        (authority.issue_tenant(&request, tenant, operator).unwrap(), key)
    };
    refused(connect(None).await, Code::NoCertificate);
    refused(connect(Some(issue(&authority, "nobody", false))).await, Code::UnknownTenant);
    let other = Authority::create().unwrap();
    refused(connect(Some(issue(&other, "default", true))).await, Code::NoCertificate);
    let operator = connect(Some(issue(&authority, "default", true))).await.unwrap();
    let plain = connect(Some(issue(&authority, "default", false))).await.unwrap();
    create(&plain, "orders", 1).await;
    refused(plain.admin().call(TenantLs {}).await, Code::Forbidden);
    assert_eq!(operator.admin().call(TenantLs {}).await.unwrap().len(), 1);
    // A client that trusts another authority does not trust this broker.
    let (certificate, key) = issue(&authority, "default", false);
    let context = Context {
        authority_pem: other.certificate_pem().to_owned(),
        certificate_pem: Some(certificate),
        key_pem: Some(key),
        ..broker.context()
    };
    refused(Client::builder().context(context).connect().await, Code::Untrusted);
    plain.close().await;
    operator.close().await;
}
