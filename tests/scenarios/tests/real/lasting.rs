//! What a scenario keeps of the shipped client over its steps: producers and readers.
use std::collections::BTreeMap;
use std::time::Duration;

use yard_client::wire::QueueIndex;
use yard_client::{Client, Error, Producer, Reader};
use yard_scenarios::host::{Producing, Select};

/// By the scenario's names.
#[derive(Default)]
pub(crate) struct Lasting {
    producers: BTreeMap<String, Producer>,
    readers: BTreeMap<String, Reader>,
}

impl Lasting {
    pub(crate) async fn produce(
        &mut self,
        client: &Client,
        name: &str,
        how: &Producing,
    ) -> Result<Vec<u64>, Error> {
        let mut builder = client.producer(&how.topic);
        if let Some(ms) = how.within_ms {
            builder = builder.delivery_timeout(Duration::from_millis(ms));
        }
        if let Some(bytes) = how.buffer_bytes {
            builder = builder.buffer_bytes(bytes as usize);
        }
        if let Some(ms) = how.linger_ms {
            builder = builder.linger_ms(ms);
        }
        builder = match how.select {
            Some(Select::ByLength) => builder
                .selector(|message, queues| (message.body().len() % usize::from(queues)) as u16),
            Some(Select::Always(queue)) => builder.selector(move |_, _| queue),
            None => builder,
        };
        if let Some(identity) = &how.identity {
            builder = builder.identity(identity);
        }
        let producer = builder.build().await?;
        let queues = how.identity.as_ref().map_or(0, |_| producer.queues());
        let before = (0..queues).map(|queue| producer.sent_before(QueueIndex(queue))).collect();
        self.producers.insert(name.to_owned(), producer);
        Ok(before)
    }

    pub(crate) fn producer(&self, name: &str) -> &Producer {
        self.producers.get(name).expect("a step has made the producer")
    }

    /// A reader is made by the first step that names it.
    pub(crate) async fn assign(
        &mut self,
        client: &Client,
        (name, topic): (&str, &str),
        queues: &[QueueIndex],
    ) -> Result<(), Error> {
        let made = || client.reader(topic);
        self.readers.entry(name.to_owned()).or_insert_with(made).assign(queues).await
    }

    pub(crate) fn reader(&mut self, name: &str) -> &mut Reader {
        self.readers.get_mut(name).expect("a step has made the reader")
    }
}
