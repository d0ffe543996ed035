//! `yard request` and `yard reply`: a message and the reply to it.
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use yard_client::wire::Code;
use yard_client::{Client, Consumer, Delivery, Message, Start};

use super::Session;
use crate::args::Written;
use crate::failure::Failure;
use crate::message::{Printer, Received, Style};
use crate::terminal::Interrupts;
use crate::text;

/// Bounds of how long a reply is waited for.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);

pub(crate) async fn request(session: &Session, written: &Written) -> Result<(), Failure> {
    let topic = written.required("topic")?;
    let mut message = Message::new(written.required("message")?.as_bytes().to_vec());
    if let Some(key) = written.text("key") {
        message = message.key(key);
    }
    if let Some(tag) = written.text("tag") {
        message = message.tag(tag);
    }
    let timeout =
        written.read("timeout", |text| text::read_duration(text, TIMEOUT_MIN, TIMEOUT_MAX))?;
    let style = Style::new(session.format, written.switch("raw"))?;
    let client = session.connect(Some(1)).await?;
    let result = client.request(topic, message, timeout.unwrap_or(TIMEOUT_MIN)).await;
    // Not left at once: the inbox is removed first.
    client.close().await;
    let response = result?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut printer = Printer::new(style);
    let delivery = response.delivery();
    printer.print(&Received::of("", delivery), &mut out)?;
    Ok(printer.finish(&mut out)?)
}

/// What requests are answered with.
struct Answers {
    /// Without, the body of the request.
    text: Option<String>,
    /// Requests still to be answered.
    left: u64,
}

pub(crate) async fn reply(session: &Session, written: &Written) -> Result<(), Failure> {
    let (topic, group) = (written.required("topic")?, written.required("group")?);
    let mut answers = Answers {
        text: written.text("message").map(str::to_owned),
        left: written.number("count", 1, u64::MAX)?.unwrap_or(u64::MAX),
    };
    let mut interrupts = Interrupts::catch()?;
    let client = session.connect(Some(1)).await?;
    // Requests that came while nobody was there may still be waited for; others have expired.
    let consumer = client.consumer(topic, group).start(Start::Earliest).credit(64, 8 << 20);
    let result = match consumer.build().await {
        Ok(mut consumer) => {
            let answered = tokio::select! {
                answered = answer_all(&client, &mut consumer, &mut answers) => answered,
                () = interrupts.next() => Ok(()),
            };
            answered.and(consumer.close().await.map_err(Failure::from))
        }
        Err(error) => Err(error.into()),
    };
    super::leave(&client).await;
    result
}

async fn answer_all(
    client: &Client,
    consumer: &mut Consumer,
    answers: &mut Answers,
) -> Result<(), Failure> {
    while answers.left > 0 {
        let request = consumer.recv().await?;
        if !request.wants_reply() {
            eprintln!("message {} wants no reply; it is left out", request.id());
            request.ack().await?;
            continue;
        }
        answer(client, &request, answers).await?;
        answers.left -= 1;
    }
    io::stdout().flush().map_err(Failure::from)
}

async fn answer(client: &Client, request: &Delivery, answers: &Answers) -> Result<(), Failure> {
    let replied = match (&answers.text, request.body()) {
        (Some(text), _) => client.reply(request, Message::new(text.as_bytes().to_vec())).await,
        (None, Ok(body)) => client.reply(request, Message::new(body)).await,
        (None, Err(error)) => client.reply_failed(request, &error.to_string()).await,
    };
    match replied {
        Ok(_) => println!("answered {}", request.id()),
        // Whoever asked has gone: there is nobody to tell.
        Err(error) if error.code == Code::UnknownTopic => {
            println!("nobody waits for {} any more", request.id());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(request.ack().await?)
}
