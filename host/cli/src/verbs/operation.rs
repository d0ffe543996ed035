//! Any operation of the catalogue: texts to arguments, one call, result to output.
use yard_client::wire::operation::Operation;

use super::Session;
use crate::args::Written;
use crate::failure::Failure;
use crate::output;

pub(crate) async fn run(
    session: &Session,
    operation: Operation,
    written: &Written,
) -> Result<(), Failure> {
    // Before anything is connected: a wrong argument needs no broker.
    let args = operation.encode_args(&|name| written.text(name).map(str::to_owned))?;
    let client = session.connect(1).await?;
    let result = client.admin().call_raw(operation, args).await;
    client.close().await;
    let value = operation.decode_result(result?)?;
    Ok(output::show(&value, session.format)?)
}
