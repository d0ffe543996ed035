//! Any operation of the catalogue: texts to arguments, one call, result to output.
use yard_client::wire::Code;
use yard_client::wire::operation::{Operation, Presence};

use super::Session;
use crate::args::Written;
use crate::failure::Failure;
use crate::output;

pub(crate) async fn run(
    session: &Session,
    operation: Operation,
    written: &Written,
) -> Result<(), Failure> {
    check_something_is_set(operation, written)?;
    // Before anything is connected: a wrong argument needs no broker.
    let args = operation.encode_args(&|name| written.text(name).map(str::to_owned))?;
    let client = session.connect(Some(1)).await?;
    let result = client.admin().call_raw(operation, args).await;
    super::leave(&client).await;
    let value = operation.decode_result(result?)?;
    Ok(output::show(&value, session.format)?)
}

/// A command to set something that says not what is a mistake, not a wish for nothing.
fn check_something_is_set(operation: Operation, written: &Written) -> Result<(), Failure> {
    let fields = operation.fields().iter();
    let options: Vec<_> = fields.filter(|field| field.presence == Presence::Optional).collect();
    let sets = operation.words().last() == Some(&"set");
    if !sets || options.iter().any(|field| written.is_given(field.name)) {
        return Ok(());
    }
    let flags: Vec<_> = options.iter().map(|f| format!("--{}", f.name.replace('_', "-"))).collect();
    let sentence = format!("nothing to set: give {}", flags.join(" or "));
    Err(Failure::usage(sentence).with_code(Code::BadArgument))
}
