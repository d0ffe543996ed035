//! The program `yard` as an operator runs it, and what it prints for programs.
use serde_json::Value;
use yard_client::wire::Refusal;
use yard_client::{Code, Context};
use yard_it::server::write_context;
use yard_it::{Failed, Scratch, yard};
use yard_scenarios::host::Outcome;
use yard_scenarios::rows::Row;

/// Runs it to its end.
pub(crate) fn run(context: Context, words: &[&str]) -> Result<Outcome<Vec<Row>>, Failed> {
    let scratch = Scratch::new("program")?;
    let path = scratch.path().join("context.toml");
    write_context(&path, context)?;
    let mut command = yard::command(&yard::locate(None)?, &path);
    let output = command.args(words).args(["-o", "json"]).output()?;
    let (said, exit) = (String::from_utf8_lossy(&output.stderr), output.status.code());
    if let Some(code) = code_of(&said).filter(|_| exit != Some(0)) {
        return Ok(Err(Refusal::new(code, said.trim())));
    }
    let Ok(printed) = serde_json::from_slice::<Value>(&output.stdout) else {
        return Err(Failed(format!("it printed no JSON and said: {said}")));
    };
    let exit = exit.map_or_else(|| "none".to_owned(), |code| code.to_string());
    let objects = match printed {
        Value::Array(objects) => objects,
        object => vec![object],
    };
    Ok(Ok(objects.iter().map(|object| row(object, &exit)).collect()))
}

/// The code of `{"error":{"code":"E0209",…}}`.
fn code_of(said: &str) -> Option<Code> {
    let said: Value = said.lines().find_map(|line| serde_json::from_str(line).ok())?;
    let number = said["error"]["code"].as_str()?.strip_prefix('E')?;
    Code::from_number(number.parse().ok()?)
}

fn row(object: &Value, exit: &str) -> Row {
    let mut fields = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                let of = |(own, value): (&String, &Value)| (format!("{name}.{own}"), text(value));
                fields.extend(inner.iter().map(of));
            }
            value => fields.push((name.clone(), text(value))),
        }
    }
    Row { fields, usual: vec![("exit", exit.to_owned(), "0")], ..Row::default() }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
