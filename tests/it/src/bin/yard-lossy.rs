//! Measures what loss on a long way costs: 25 ms each way, 100 Mbit/s, 1,000 packets of queue.
//!
//! ```text
//! yard-lossy [--loss 0,1,5] [--controller cubic,bbr] [--streams 1,adapted] [--queues N]
//!            [--seconds N] [--seed N] [--yard PATH]
//! ```
//!
//! It is a benchmark: it prints a table and judges nothing. Exit codes: 0 measured, 2 not.
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use yard_client::transport::Controller;
use yard_it::arguments::Arguments;
use yard_it::lossy::{self, LossyOptions, Row};
use yard_it::{Failed, program, yard};

const FLAGS: &[&str] = &["loss", "controller", "streams", "queues", "seconds", "seed", "yard"];

fn main() -> ExitCode {
    program::run("yard-lossy", FLAGS, measure)
}

/// The values of a list that is separated by commas.
fn list<T>(
    arguments: &Arguments,
    name: &str,
    unless_given: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Failed> {
    let text = arguments.text(name).unwrap_or(unless_given);
    let all = text
        .split(',')
        .map(|one| read(one).ok_or_else(|| Failed(format!("--{name} does not take {one:?}"))));
    all.collect()
}

async fn measure(arguments: &Arguments) -> Result<(), Failed> {
    let options = LossyOptions {
        yard: yard::locate(arguments.text("yard").map(Path::new))?,
        queues: arguments.value("queues", 32)?,
        length: Duration::from_secs(arguments.value("seconds", 20)?),
        seed: arguments.value("seed", 1)?,
    };
    let losses = list(arguments, "loss", "0,1,5", |text| text.parse::<u32>().ok())?;
    let controllers =
        list(arguments, "controller", "cubic,bbr", |text| text.parse::<Controller>().ok())?;
    let streams = list(arguments, "streams", "1,adapted", |text| match text {
        "adapted" => Some(None),
        number => number.parse().ok().map(Some),
    })?;
    let (queues, seconds) = (options.queues, options.length.as_secs());
    println!("50 ms, 100 Mbit/s, {queues} queues, 1 KiB messages, 2 x {seconds} s a row");
    println!("{}  of clean", lossy::HEAD);
    for controller in controllers {
        for streams in &streams {
            let mut clean = None;
            for loss_percent in losses.iter().copied() {
                let row = Row { loss_percent, controller, streams: *streams };
                let found = lossy::measure(&options, row).await?;
                let ratio = found.bulk_bytes / *clean.get_or_insert(found.bulk_bytes);
                println!("{row} {found}  {ratio:>7.2}");
            }
        }
    }
    Ok(())
}
