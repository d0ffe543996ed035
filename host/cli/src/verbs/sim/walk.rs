//! Walking through a log line by line: a word is read, a step is shown.
use std::io::{self, BufRead, Write};

use super::log::Log;
use crate::text::visible;

const HELP: &str = "\
n, or nothing   the next step          p          the one before
NUMBER          the step of that number, or the next that there is
/TEXT           the next step with that text in it; ?TEXT the last one before
s [TEXT]        the state after this step, as far as it has that text
q               leave
";

/// Where a word leads; `None`: nowhere.
enum Turn {
    To(usize),
    Stay,
    Leave,
}

/// Shows steps as they are asked for, from the first on.
pub(super) fn walk(log: &Log, input: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{}{}{HELP}", log.title(), log.outcome())?;
    if log.steps.is_empty() {
        return Ok(());
    }
    let mut at = 0;
    out.write_all(log.steps[at].text(log.last()).as_bytes())?;
    loop {
        out.write_all(b"> ")?;
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match turn(log, at, line.trim(), out)? {
            Turn::To(next) => {
                at = next;
                out.write_all(log.steps[at].text(log.last()).as_bytes())?;
            }
            Turn::Stay => {}
            Turn::Leave => return Ok(()),
        }
    }
}

fn turn(log: &Log, at: usize, word: &str, out: &mut impl Write) -> io::Result<Turn> {
    let steps = &log.steps;
    let to = match word {
        "q" => return Ok(Turn::Leave),
        "" | "n" => (at + 1 < steps.len()).then_some(at + 1),
        "p" => at.checked_sub(1),
        _ => {
            if let Ok(number) = word.parse() {
                Some(log.place(number))
            } else if let Some(text) = word.strip_prefix('/') {
                let mut later = (at + 1)..steps.len();
                later.find(|at| steps[*at].speaks_of(text))
            } else if let Some(text) = word.strip_prefix('?') {
                (0..at).rev().find(|at| steps[*at].speaks_of(text))
            } else if let Some(text) = word.strip_prefix('s') {
                for (path, said) in log.state(at) {
                    if path.contains(text.trim()) || said.contains(text.trim()) {
                        writeln!(out, "    {}: {}", visible(path), visible(said))?;
                    }
                }
                return Ok(Turn::Stay);
            } else {
                out.write_all(HELP.as_bytes())?;
                return Ok(Turn::Stay);
            }
        }
    };
    Ok(match to {
        Some(to) => Turn::To(to),
        None => {
            out.write_all(b"there is none\n")?;
            Turn::Stay
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::log::SAMPLE;
    use super::*;

    /// The numbers of the steps that are shown, and what else is said, for these words.
    #[track_caller]
    fn check(words: &str, expect: &str) {
        let log = Log::parse(SAMPLE).expect("well-formed");
        let (mut out, words) = (Vec::new(), words.replace(' ', "\n"));
        walk(&log, &mut words.as_bytes(), &mut out).expect("memory has room");
        let said = String::from_utf8(out).expect("it is text");
        let said = said.split_once(HELP).expect("it begins with the help").1.replace("> ", "");
        let kept = said.lines().filter_map(|line| {
            let step = line.strip_prefix("step ").and_then(|line| line.split(' ').next());
            step.or_else(|| (line == "there is none").then_some("none"))
                .or_else(|| line.trim().strip_prefix("phase: SetUp").map(|_| "state"))
        });
        assert_eq!(kept.collect::<Vec<_>>().join(" "), expect);
    }

    #[test]
    fn words_lead_forwards_and_backwards() {
        check("q", "1");
        check("n n n p p p", "1 4 5 none 4 1 none");
        check("5 1 2 99", "1 5 1 4 5");
        check("/cut /cut ?starts", "1 5 none 1");
        check("sphase snothing n", "1 state 4");
        check("x q n", "1");
    }
}
