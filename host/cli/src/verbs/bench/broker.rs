//! The broker that is measured: started for it, or one that runs.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use yard_client::wire::operation::{BrokerInfo, BrokerReport, TopicCreate};
use yard_client::{Client, Context};
use yard_server::config::{self, Layer, Settings};

use super::child::{self, Folder, Helper, Reach};
use super::meter::Process;
use super::plan::Plan;
use crate::failure::Failure;

/// The word that starts the child; nobody else writes it.
pub(crate) const WORD: &str = "a-broker";

/// What the child is to do.
#[derive(Debug, Deserialize, Serialize)]
struct Orders {
    data: PathBuf,
    shards: u16,
    segment_bytes: u64,
}

/// The child: a broker of its own until the parent is gone. Then its data is of no use.
pub(crate) async fn child() -> Result<(), Failure> {
    let orders: Orders = child::orders()?;
    let data = orders.data.display().to_string();
    let flags = [
        ("dev", "true".to_owned()),
        ("data", data),
        ("listen", "127.0.0.1:0".to_owned()),
        ("shards", orders.shards.to_string()),
        ("segment_bytes", orders.segment_bytes.to_string()),
    ];
    // Settings of the environment can be tried out.
    let environment = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let layers = [config::environment(environment), Layer::flags(flags)];
    let settings =
        Settings::from_layers(&layers).map_err(|problems| super::super::serve::wrong(&problems))?;
    let running = yard_server::start(settings)
        .await
        .map_err(|error| super::super::serve::not_started(&error))?;
    child::ready(&Reach::from(running.connection()))?;
    child::parent_gone().await;
    running.stop().await;
    child::clear(&orders.data);
    Ok(())
}

/// The broker that is measured.
#[derive(Debug)]
pub(crate) struct Broker {
    helper: Option<Helper>,
    context: Context,
    operator: Client,
    topic: String,
}

impl Broker {
    /// Starts a broker in the folder; without a folder, takes the one of the context.
    pub(crate) async fn start(
        plan: &Plan,
        folder: &Folder,
        running: Option<Context>,
    ) -> Result<Self, Failure> {
        let (helper, context) = match running {
            Some(context) => (None, context),
            None => {
                let data = folder.path().join("data");
                let &Plan { shards, segment_bytes, .. } = plan;
                let helper = Helper::start(WORD, &Orders { data, shards, segment_bytes })?;
                let context = Context::from(helper.reach.clone());
                (Some(helper), context)
            }
        };
        let operator = super::super::connect(context.clone(), Some(1)).await?;
        let topic = format!("bench-{}-{}", std::process::id(), super::super::now());
        let broker = Self { helper, context, operator, topic };
        let note = "Made by `yard bench`".to_owned();
        let args = TopicCreate {
            name: broker.topic.clone(),
            queues: plan.queues,
            note,
            ..TopicCreate::default()
        };
        broker.operator.admin().call(args).await?;
        Ok(broker)
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) async fn client(&self, streams: u16) -> Result<Client, Failure> {
        super::super::connect(self.context.clone(), Some(streams)).await
    }

    pub(crate) async fn clients(&self, plan: &Plan) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for _ in 0..plan.connections {
            clients.push(self.client(plan.streams).await?);
        }
        Ok(clients)
    }

    pub(crate) fn process(&self) -> Process {
        match &self.helper {
            Some(helper) => Process::Here(helper.id()),
            None => Process::Broker(self.operator.clone()),
        }
    }

    pub(crate) async fn info(&self) -> Result<BrokerReport, Failure> {
        Ok(self.operator.admin().call(BrokerInfo {}).await?)
    }

    /// Takes away what the measurement has put there.
    pub(crate) async fn end(self) {
        if self.helper.is_none() {
            let args = yard_client::wire::operation::TopicRm { name: self.topic.clone() };
            if let Err(error) = self.operator.admin().call(args).await {
                eprintln!("topic {} could not be removed: {error}", self.topic);
            }
        }
        super::super::leave(&self.operator).await;
    }
}
