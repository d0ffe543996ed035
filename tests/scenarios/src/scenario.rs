//! A file into a scenario: title, reason, steps with what comes of each. Blocks that are repeated
//! for the rows of a table are unrolled here, so that a step knows its line and its row.
//!
//! ```text
//! # What holds.
//! # Why, or what it is good for.
//!
//! not on real: 4 hours of time
//! segments 64KiB
//!
//! topic orders
//! each TAG ANSWER
//! = "a|b"  "E0226 BadTag"
//! = red    0@0
//! send orders x tag={TAG} -> {ANSWER}
//! end
//! ```
use yard_wire::Code;

use crate::host::Kind;
use crate::run::check_code;
use crate::steps::{Answer, Form, Verb};
use crate::units::{bytes, duration_ms};
use crate::words::{Word, Wrong, split};

/// Time that may pass on a real server.
pub const REAL_MS_MAX: u64 = 4_000;
/// Bytes of a segment where a scenario names none: none fills one.
const SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENTS: &str = "segments";

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its file, under the folder of files.
    pub file: String,
    /// What holds.
    pub title: String,
    /// Why, or what it is good for.
    pub reason: String,
    /// Where it is left out, and why.
    pub not_on: Vec<(Kind, String)>,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its line.
    pub line: usize,
    /// The line of the row that it is unrolled for, if it is.
    pub row: Option<usize>,
    /// How it is written.
    pub form: &'static Form,
    /// Its words without a name.
    pub words: Vec<String>,
    /// Those with one.
    pub named: Vec<(String, String)>,
    /// What comes of it, in lines; none: that it goes well.
    pub expected: Option<Vec<Vec<Word>>>,
}

impl Step {
    /// The value of the first word of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The code that it is refused with, if it is.
    #[must_use]
    pub fn refused(&self) -> Option<Code> {
        match self.expected.as_deref() {
            Some([line]) => line.first().and_then(|word| code_of(&word.text)),
            Some(_) | None => None,
        }
    }
}

fn code_of(text: &str) -> Option<Code> {
    let number = text.strip_prefix('E').filter(|digits| digits.len() == 4)?;
    Code::from_number(number.parse().ok()?)
}

struct Line<'a> {
    number: usize,
    text: &'a str,
}

/// Names and values of a row of a table.
type Row = Vec<(String, String)>;

struct Reader<'a> {
    file: &'a str,
    lines: std::iter::Peekable<std::vec::IntoIter<Line<'a>>>,
}

fn is_segments(line: &str) -> bool {
    line.split_whitespace().next() == Some(SEGMENTS)
}

/// Reads a file.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(file: &str, text: &str) -> Result<Scenario, Wrong> {
    let wrong =
        |line: usize, says: &str| Wrong { file: file.to_owned(), line, says: says.to_owned() };
    let mut comments = text.lines().take_while(|line| line.starts_with("# "));
    let title = comments.next().unwrap_or_default().trim_start_matches("# ").to_owned();
    if title.is_empty() || !title.ends_with('.') {
        return Err(wrong(1, "it begins with `# ` and a sentence: what holds"));
    }
    let reason: Vec<&str> = comments.map(|line| line.trim_start_matches("# ")).collect();
    if reason.is_empty() {
        return Err(wrong(2, "the second line is `# ` and why this holds, or what it is good for"));
    }
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
    let lines: Vec<Line> = lines.map(|(number, text)| Line { number, text }).collect();
    let mut reader = Reader { file, lines: lines.into_iter().peekable() };
    let (not_on, segment_bytes) = reader.head()?;
    let mut steps = Vec::new();
    while reader.lines.peek().is_some() {
        reader.step(&mut steps)?;
    }
    if steps.is_empty() {
        return Err(wrong(1, "it has no steps"));
    }
    let (file, reason) = (file.to_owned(), reason.join(" "));
    let scenario = Scenario { file, title, reason, not_on, segment_bytes, steps };
    scenario.check()?;
    Ok(scenario)
}

impl Scenario {
    fn check(&self) -> Result<(), Wrong> {
        let wrong = |line, says| Err(Wrong { file: self.file.clone(), line, says });
        let leaves_out = |kind| self.not_on.iter().any(|(other, _)| *other == kind);
        let mut passed_ms = 0;
        for step in &self.steps {
            if let Some(kind) = step.form.not_on.iter().find(|kind| !leaves_out(**kind)) {
                let (verb, host) = (step.form.verb.text(), kind.text());
                return wrong(step.line, format!("`{verb}` needs a line `not on {host}: why`"));
            }
            if step.form.verb == Verb::Advance {
                let ms = duration_ms(&step.words[0]);
                passed_ms += ms.or_else(|says| wrong(step.line, says).map(|()| 0))?;
            }
            if let (Some(code), Some(said)) = (step.refused(), &step.expected) {
                check_code(said, code).or_else(|says| wrong(step.line, says))?;
            }
            if passed_ms > REAL_MS_MAX && !leaves_out(Kind::Real) {
                let says = format!("more than {REAL_MS_MAX} ms pass: it needs `not on real: why`");
                return wrong(step.line, says);
            }
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn wrong(&self, line: usize, says: impl Into<String>) -> Wrong {
        Wrong { file: self.file.to_owned(), line, says: says.into() }
    }

    /// Lines before the first step: `not on HOST…: why`, `segments SIZE`.
    fn head(&mut self) -> Result<(Vec<(Kind, String)>, u64), Wrong> {
        let (mut not_on, mut segment_bytes) = (Vec::new(), SEGMENT_BYTES);
        loop {
            if let Some(line) = self.lines.next_if(|line| line.text.starts_with("not on ")) {
                self.not_on(&line, &mut not_on)?;
            } else if let Some(line) = self.lines.next_if(|line| is_segments(line.text)) {
                let size = line.text.trim_start_matches(SEGMENTS).trim();
                segment_bytes = bytes(size).map_err(|says| self.wrong(line.number, says))?;
            } else {
                return Ok((not_on, segment_bytes));
            }
        }
    }

    fn not_on(&self, line: &Line<'_>, found: &mut Vec<(Kind, String)>) -> Result<(), Wrong> {
        let says = "it is written `not on HOST…: why`; hosts are bare, simulated and real";
        let wrong = || self.wrong(line.number, says);
        let (hosts, why) = line.text.split_once(':').ok_or_else(wrong)?;
        for host in hosts.trim_start_matches("not on ").split_whitespace() {
            let kind = Kind::ALL.iter().find(|kind| kind.text() == host);
            found.push((*kind.ok_or_else(wrong)?, why.trim().to_owned()));
        }
        if why.trim().is_empty() { Err(wrong()) } else { Ok(()) }
    }

    fn step(&mut self, steps: &mut Vec<Step>) -> Result<(), Wrong> {
        let line = self.lines.next().expect("somebody looked");
        if line.text == "each" || line.text.starts_with("each ") {
            return self.table(&line, steps);
        }
        let step = self.read_step(line)?;
        steps.push(step);
        Ok(())
    }

    fn words(&self, line: &Line<'_>) -> Result<(Vec<Word>, Option<Vec<Word>>), Wrong> {
        split(line.text).map_err(|says| self.wrong(line.number, says))
    }

    fn read_step(&mut self, line: Line<'a>) -> Result<Step, Wrong> {
        let (words, after) = self.words(&line)?;
        let wrong = |says: String| self.wrong(line.number, says);
        let verb = words.first().map(|word| word.text.clone()).unwrap_or_default();
        let form = Form::of(&verb).ok_or_else(|| wrong(format!("`{verb}` is no step")))?;
        let (named, plain): (Vec<Word>, Vec<Word>) =
            words.into_iter().skip(1).partition(|word| word.name.is_some());
        if !form.takes(plain.len()) {
            return Err(wrong(format!("it is written `{}`", form.shown())));
        }
        let named: Vec<(String, String)> =
            named.into_iter().filter_map(|word| Some((word.name?, repeated(word.text)))).collect();
        if let Some((name, _)) = named.iter().find(|(name, _)| !form.knows(name)) {
            return Err(wrong(format!("`{verb}` knows no {name}=: `{}`", form.shown())));
        }
        let mut expected: Option<Vec<Vec<Word>>> = after.map(|after| vec![after]);
        while let Some(more) = self.lines.next_if(|line| line.text.starts_with("->")) {
            let (_, after) = self.words(&more)?;
            expected.get_or_insert_default().push(after.unwrap_or_default());
        }
        if expected.is_none() && form.answer == Answer::Must {
            return Err(self.wrong(line.number, "it says nothing about what comes of it: `-> …`"));
        }
        let words = plain.into_iter().map(|word| repeated(word.text)).collect();
        Ok(Step { line: line.number, row: None, form, words, named, expected })
    }

    /// A block that is repeated for each row.
    fn table(&mut self, head: &Line<'a>, steps: &mut Vec<Step>) -> Result<(), Wrong> {
        let (names, _) = self.words(head)?;
        let names: Vec<String> = names.into_iter().skip(1).map(|word| word.text).collect();
        let mut rows: Vec<(usize, Row)> = Vec::new();
        while let Some(line) = self.lines.next_if(|line| line.text.starts_with("= ")) {
            let (values, _) = split(&line.text[2..]).map_err(|s| self.wrong(line.number, s))?;
            if values.len() != names.len() {
                let says = format!("the row has {} values for {names:?}", values.len());
                return Err(self.wrong(line.number, says));
            }
            let text = |word: Word| match word.name {
                Some(name) => format!("{name}={}", word.text),
                None => repeated(word.text),
            };
            let values: Vec<String> = values.into_iter().map(text).collect();
            for values in counted(values) {
                rows.push((line.number, names.iter().cloned().zip(values).collect()));
            }
        }
        let mut block = Vec::new();
        loop {
            match self.lines.peek().map(|line| (line.number, line.text)) {
                None => return Err(self.wrong(head.number, "its `end` is missing")),
                Some((_, "end")) => break,
                Some((number, text)) if text.starts_with("each") => {
                    return Err(self.wrong(number, "a table is in no other table"));
                }
                Some(_) => self.step(&mut block)?,
            }
        }
        self.lines.next();
        if rows.is_empty() || block.is_empty() {
            return Err(self.wrong(head.number, "it has no rows `= …`, or no steps"));
        }
        for (line, row) in &rows {
            for step in &block {
                steps.push(step.filled(*line, row));
            }
        }
        Ok(())
    }
}

impl Step {
    fn filled(&self, line: usize, row: &Row) -> Self {
        let fill = |text: &String| fill(text, row);
        let named = self.named.iter();
        // What a row leaves empty is not there: it is how one row does without a setting.
        let named = named.map(|(name, value)| (fill(name), value.clone(), fill(value)));
        let named = named.filter(|(_, before, after)| before == after || !after.is_empty());
        let expected = self.expected.as_ref().map(|lines| {
            lines
                .iter()
                .map(|words| words.iter().flat_map(|it| filled(it, row)).collect())
                .collect()
        });
        Self {
            row: Some(line),
            words: self.words.iter().map(fill).collect(),
            named: named.map(|(name, _, after)| (name, after)).collect(),
            expected,
            ..self.clone()
        }
    }
}

fn fill(text: &str, row: &Row) -> String {
    row.iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// A row of nothing but `10..42` stands for 32 rows, of the numbers from 10 to 41.
fn counted(values: Vec<String>) -> Vec<Vec<String>> {
    let numbers = match &values[..] {
        [text] => text
            .split_once("..")
            .and_then(|(from, to)| Some(from.parse::<u32>().ok()?..to.parse::<u32>().ok()?)),
        _ => None,
    };
    match numbers {
        Some(numbers) => numbers.map(|number| vec![number.to_string()]).collect(),
        None => vec![values],
    }
}

/// `{300*ab}` stands for 300 times `ab`.
fn repeated(text: String) -> String {
    let parts = text.split_once('{').and_then(|(before, rest)| {
        let (inner, after) = rest.split_once('}')?;
        let (times, what) = inner.split_once('*')?;
        Some(format!("{before}{}{after}", what.repeat(times.parse().ok()?)))
    });
    parts.unwrap_or(text)
}

/// An expected word with its values; one that is nothing but a name may become several.
fn filled(word: &Word, row: &Row) -> Vec<Word> {
    let whole = row.iter().find(|(name, _)| word.text == format!("{{{name}}}"));
    match (whole, &word.name) {
        (Some((_, value)), None) => split(value).map(|(words, _)| words).unwrap_or_default(),
        _ => vec![Word { name: word.name.clone(), text: fill(&word.text, row) }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# It holds.\n# For a reason.\n";

    fn wrong(text: &str) -> String {
        read("a.txt", &format!("{HEAD}{text}")).expect_err("something is wrong").to_string()
    }

    #[test]
    fn tables_are_unrolled_and_steps_know_their_lines() {
        let text =
            "\neach A B\n= x 1\n= \"y z\" \"E0226 BadTag\"\nsend t {A} tag={A} -> {B}\nend\n";
        let scenario = read("a.txt", &format!("{HEAD}{text}advance 1s\n")).expect("it is right");
        let steps: Vec<_> = scenario.steps.iter().map(|it| (it.line, it.row)).collect();
        assert_eq!(steps, [(7, Some(5)), (7, Some(6)), (9, None)]);
        assert_eq!(scenario.steps[1].words, ["t", "y z"]);
        assert_eq!(scenario.steps[1].refused(), Some(Code::BadTag));
        let text = format!("{HEAD}send t {{3*ab}} tag=x{{2*y}}z\n");
        let step = read("a.txt", &text).expect("it is right").steps.remove(0);
        assert_eq!((&step.words[1][..], step.get("tag")), ("ababab", Some("xyyz")));
        let text = format!("{HEAD}each N\n= 9..12\nsend t {{2*a}}{{N}}\nend\n");
        let steps = read("a.txt", &text).expect("it is right").steps;
        let bodies: Vec<&str> = steps.iter().map(|step| &step.words[1][..]).collect();
        assert_eq!(bodies, ["aa9", "aa10", "aa11"]);
        assert_eq!((scenario.title, scenario.reason), ("It holds.".into(), "For a reason.".into()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert_eq!(wrong("\nsned t x\n"), "a.txt:4: `sned` is no step");
        assert_eq!(wrong("receive a\n").split(": ").next(), Some("a.txt:3"));
        assert!(wrong("send t\n").contains("it is written `send TOPIC BODY"));
        assert!(wrong("send t x colour=red\n").contains("`send` knows no colour="));
        assert!(wrong("each A\n= x y\nsend t x\nend\n").starts_with("a.txt:4: the row has 2"));
        assert!(wrong("each A\n= x\nsend t x\n").starts_with("a.txt:3: its `end`"));
        assert!(wrong("advance 3 weeks\n").contains("it is written"));
        assert!(wrong("advance 3w\n").contains("a.txt:3"));
        assert!(wrong("advance 1h\n").contains("not on real"));
        assert!(wrong("not on moon: far\nadvance 1s\n").starts_with("a.txt:3: it is written"));
        assert!(wrong("disk full\n").contains("`disk` needs a line `not on real: why`"));
        let says = read("a.txt", "topic t\n").expect_err("no title").to_string();
        assert!(says.starts_with("a.txt:1: it begins with"));
    }
}
