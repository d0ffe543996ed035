//! `yard context`: list the saved contexts, choose one.
use std::io::{self, Write};

use yard_client::wire::value::Value;

use crate::args::Written;
use crate::context::{Contexts, Listed};
use crate::failure::Failure;
use crate::output::{self, Format};

pub(crate) fn list(format: Format) -> Result<(), Failure> {
    let listed = Contexts::of_user()?.list();
    Ok(output::show(&Value::List(listed.into_iter().map(row).collect()), format)?)
}

fn row(listed: Listed) -> Value {
    let path = listed.path.display().to_string();
    let (addresses, tenant) = match listed.context {
        Ok(context) => (context.addresses.join(", "), context.tenant),
        Err(why) => (format!("cannot be used: {}", why.lines().next().unwrap_or("")), "".into()),
    };
    Value::Record(vec![
        ("name", Value::Text(listed.name)),
        ("current", Value::Bool(listed.current)),
        ("tenant", Value::Text(tenant)),
        ("addresses", Value::Text(addresses)),
        ("path", Value::Text(path)),
    ])
}

pub(crate) fn choose(written: &Written) -> Result<(), Failure> {
    let name = written.required("name")?;
    Contexts::of_user()?.choose(name)?;
    let mut hints = io::stderr().lock();
    match crate::context::of_environment() {
        None => writeln!(hints, "commands now use the context {name}")?,
        Some(wins) => writeln!(
            hints,
            "the current context is now {name}, but YARD_CONTEXT is set and wins: commands use \
             {wins} until it is unset"
        )?,
    }
    Ok(())
}
