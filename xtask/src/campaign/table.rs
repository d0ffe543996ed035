//! The rows of a campaign, as they come and as they are shown.
use std::fmt::Write;

/// What one fault came to.
pub(crate) struct Row {
    name: String,
    count: String,
    detail: String,
    verdict: String,
}

impl Row {
    /// Reads `row|name|count|detail|verdict`; `None` for anything else.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix("row|")?.split('|').map(str::to_owned);
        let row = Self {
            name: fields.next()?,
            count: fields.next()?,
            detail: fields.next()?,
            verdict: fields.next()?,
        };
        fields.next().is_none().then_some(row)
    }

    /// A program that could not do its work, and what it said.
    pub(crate) fn failed(name: &str, why: &str) -> Self {
        let (name, detail) = (name.to_owned(), why.to_owned());
        Self { name, count: String::new(), detail, verdict: "NOT RUN".to_owned() }
    }

    /// Nothing was found.
    pub(crate) fn is_good(&self) -> bool {
        self.verdict == "ok"
    }

    /// It could not be tried on this machine.
    pub(crate) fn is_skipped(&self) -> bool {
        self.verdict == "skipped"
    }
}

/// The rows below each other.
pub(crate) fn write(rows: &[Row]) -> String {
    let width = |of: fn(&Row) -> &str| rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
    let (names, counts, verdicts) =
        (width(|row| &row.name), width(|row| &row.count), width(|row| &row.verdict));
    let mut out = String::new();
    for Row { name, count, detail, verdict } in rows {
        let line = format!("{name:<names$}  {count:>counts$}  {verdict:<verdicts$}  {detail}");
        writeln!(out, "{line}").expect("a string takes everything");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned() {
        let read = |line| Row::read(line).expect("it is a row");
        let rows =
            [read("row|R1 kills|1000 kills|all there|ok"), read("row|R10|2 runs|slow|FOUND")];
        assert_eq!(
            write(&rows),
            "R1 kills  1000 kills  ok     all there\n\
             R10           2 runs  FOUND  slow\n"
        );
        assert!(rows[0].is_good() && !rows[1].is_good());
    }

    #[test]
    fn other_lines_are_no_rows() {
        for line in ["", "row|R1|3|x", "row|R1|3|x|ok|more", "R1|3|x|ok"] {
            assert!(Row::read(line).is_none(), "{line}");
        }
    }
}
