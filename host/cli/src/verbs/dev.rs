//! `yard dev`: a broker, a producer and a live tail in one process.
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, process};

use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};
use yard_client::wire::Code;
use yard_client::wire::operation::TopicCreate;
use yard_client::{Client, Consumer, Message, Producer, Start};
use yard_server::Running;
use yard_server::config::{Layer, Settings};

use super::Session;
use crate::args::Written;
use crate::failure::Failure;
use crate::message::{Printer, Received, Style};
use crate::output::Format;
use crate::terminal::Interrupts;
use crate::text;

/// Name of the saved context.
const CONTEXT: &str = "dev";
/// The address that may be given up for another when it is taken.
const LISTEN_DEFAULT: &str = "127.0.0.1:7420";
const TOPIC: &str = "demo";
const GROUP: &str = "dev-tail";
const QUEUES: u16 = 4;
/// After Ctrl-C, client and broker each get this long.
const GRACE: Duration = Duration::from_millis(400);

pub(crate) async fn run(session: &Session, written: &Written) -> Result<(), Failure> {
    let rate = written.read("rate", text::read_rate)?.unwrap_or(5.0);
    let folder = Folder::open(written.text("data"))?;
    let mut settings = settings(&folder.path, written.required("listen")?)?;
    if let Some(controller) = written.read("controller", str::parse)? {
        settings.controller = controller;
    }
    super::serve::warn_of_strangers(&settings);
    let mut interrupts = Interrupts::catch()?;
    let running =
        yard_server::start(settings).await.map_err(|error| super::serve::not_started(&error))?;
    let result = with_client(session, &running, &folder, rate, &mut interrupts).await;
    if timeout(GRACE, running.stop()).await.is_err() {
        eprintln!("the broker did not stop in time");
    }
    drop(folder);
    result
}

/// Settings of a broker on this folder; where the default address is taken, on a free port.
fn settings(data: &Path, listen: &str) -> Result<Settings, Failure> {
    let data = data.display().to_string();
    let flags = [("dev", "true".to_owned()), ("data", data), ("listen", listen.to_owned())];
    let mut settings = Settings::from_layers(&[Layer::flags(flags)])
        .map_err(|problems| super::serve::wrong(&problems))?;
    match UdpSocket::bind(settings.listen) {
        Ok(_) => {}
        Err(why) if why.kind() == io::ErrorKind::AddrInUse && listen == LISTEN_DEFAULT => {
            eprintln!("{listen} is taken; another port is used");
            settings.listen.set_port(0);
        }
        Err(why) => return Err(Failure::local(format!("cannot listen on {listen}: {why}"))),
    }
    Ok(settings)
}

/// The data folder; a temporary one is removed in the end.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn open(given: Option<&str>) -> Result<Self, Failure> {
        if let Some(path) = given {
            return Ok(Self { path: path.into(), temporary: false });
        }
        let path = env::temp_dir().join(format!("yard-dev-{}-{}", process::id(), super::now()));
        // Not recursive: what is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&path).map_err(|why| {
            Failure::local(format!("no temporary folder {}: {why}", path.display()))
        })?;
        Ok(Self { path, temporary: true })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(why) = fs::remove_dir_all(&self.path)
        {
            eprintln!("{} could not be removed: {why}", self.path.display());
        }
    }
}

async fn with_client(
    session: &Session,
    running: &Running,
    folder: &Folder,
    rate: f64,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let context = super::serve::client_context(running);
    let saved = super::serve::save(CONTEXT, &context);
    let client = super::connect(context, Some(1)).await?;
    greet(running, folder, saved);
    let mut printer = Printer::new(Style::new(session.format, false)?);
    let result = tokio::select! {
        result = play(session, &client, rate, &mut printer) => result,
        () = interrupts.next() => Ok(()),
    };
    let result = result.and(printer.finish(&mut io::stdout().lock()).map_err(Failure::from));
    // What is not settled now is of no use to anybody: the broker ends as well.
    let _ = timeout(GRACE, client.close()).await;
    result
}

/// Sends and shows messages until something fails.
async fn play(
    session: &Session,
    client: &Client,
    rate: f64,
    printer: &mut Printer,
) -> Result<(), Failure> {
    create_topic(client).await?;
    // The tail is there first, so that it sees the first message.
    let consumer = client.consumer(TOPIC, GROUP).start(Start::Latest).build().await?;
    let producer = client.producer(TOPIC).build().await?;
    tokio::select! {
        result = send(&producer, rate) => result,
        result = show(session, consumer, printer) => result,
    }
}

async fn create_topic(client: &Client) -> Result<(), Failure> {
    let note = "Made by `yard dev`".to_owned();
    let args =
        TopicCreate { name: TOPIC.to_owned(), queues: QUEUES, note, ..TopicCreate::default() };
    match client.admin().call(args).await {
        Err(error) if error.code != Code::TopicExists => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn greet(running: &Running, folder: &Folder, saved: Result<bool, Failure>) {
    let kept = if folder.temporary { "removed in the end" } else { "kept" };
    eprintln!("Switchyard listens on {}", running.local_addr());
    eprintln!("data: {} ({kept})", folder.path.display());
    match saved {
        Ok(is_used) => {
            let with = if is_used { String::new() } else { format!(" --context {CONTEXT}") };
            if !is_used {
                eprintln!("{}", super::serve::how_to_use(CONTEXT));
            }
            eprintln!("From a second terminal:");
            eprintln!("  yard pub {TOPIC} --message hello{with}");
            eprintln!("  yard sub {TOPIC} --group mine --from earliest{with}");
            eprintln!("  yard topic info {TOPIC}{with}");
        }
        Err(failure) => {
            eprintln!("The context {CONTEXT} was not saved, so other commands do not find it:");
            failure.report(Format::Table);
            eprintln!("Give them --context {}", folder.path.join("context.toml").display());
        }
    }
    eprintln!("Ctrl-C ends it.");
}

async fn send(producer: &Producer, rate: f64) -> Result<(), Failure> {
    let started = Instant::now();
    for turn in 0u32.. {
        sleep_until(started + Duration::from_secs_f64(f64::from(turn) / rate)).await;
        let body = json!({ "number": turn, "text": "hello" }).to_string();
        let message = Message::new(body).tag("hello").key(format!("key-{}", turn % 10));
        producer.send(message).await?;
    }
    Ok(())
}

async fn show(
    session: &Session,
    mut consumer: Consumer,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut is_first = true;
    loop {
        let delivery = consumer.recv().await?;
        let mut out = io::stdout().lock();
        printer.print(&Received::of(TOPIC, &delivery), &mut out)?;
        out.flush()?;
        drop(out);
        delivery.ack_later();
        if is_first {
            let seconds = session.started.elapsed().as_secs_f64();
            eprintln!("first message delivered in {seconds:.2} s");
        }
        is_first = false;
    }
}
