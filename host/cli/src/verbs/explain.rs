//! `yard explain`: the page of an error code, from the program itself.
use std::io::{self, Write};

use yard_client::wire::Code;
use yard_client::wire::code::RetryClass;
use yard_client::wire::value::Value;

use crate::args::Written;
use crate::failure::Failure;
use crate::output::{self, Format};

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

pub(crate) fn run(format: Format, written: &Written) -> Result<(), Failure> {
    let text = written.required("code")?;
    let code = find(text).ok_or_else(|| {
        Failure::usage(format!("there is no code {text:?}; codes look like E0301 or Busy"))
    })?;
    if format != Format::Table {
        return Ok(output::show(&value(code), format)?);
    }
    let mut out = io::stdout().lock();
    out.write_all(page(code).as_bytes())?;
    Ok(out.flush()?)
}

/// The same for programs.
fn value(code: Code) -> Value {
    let retry = match code.retry() {
        RetryClass::Never => "never",
        RetryClass::SamePlace => "same-place",
        RetryClass::Elsewhere => "elsewhere",
    };
    Value::Record(vec![
        ("code", Value::Text(code.label())),
        ("name", Value::Text(code.name().to_owned())),
        ("sentence", Value::Text(code.sentence().to_owned())),
        ("retry", Value::Text(retry.to_owned())),
        ("page", Value::Text(page(code))),
    ])
}

/// Finds a code by `E0301`, `301` or its name, in any case.
fn find(text: &str) -> Option<Code> {
    let digits = text.strip_prefix(['E', 'e']).unwrap_or(text);
    let by_number = digits.parse().ok().and_then(Code::from_number);
    let named = |code: &&Code| code.name().eq_ignore_ascii_case(text);
    by_number.or_else(|| Code::ALL.iter().find(named).copied())
}

/// The page, or what the registry says where a page has not been written.
fn page(code: Code) -> String {
    let label = code.label();
    let page = PAGES.iter().find(|(known, _)| *known == label);
    let text = page
        .map_or_else(|| format!("# {code}\n\n{}", code.sentence()), |(_, text)| (*text).to_owned());
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_as_people_write_them() {
        for text in ["E0301", "e0301", "301", "0301", "Busy", "busy"] {
            assert_eq!(find(text), Some(Code::Busy), "{text}");
        }
        for text in ["", "E", "E9999", "Bus", "-301"] {
            assert_eq!(find(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        for code in Code::ALL {
            assert!(page(*code).contains(&code.label()), "{code}");
        }
        for (label, _) in PAGES {
            assert!(find(label).is_some(), "{label}");
        }
    }
}
