//! Waiting for conditions.
use std::future::Future;
use std::time::{Duration, Instant};

use crate::Failed;

/// How long anything may take that takes milliseconds on an idle machine. Generous, so that a
/// busy machine changes how long a run takes and never what it says.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(5);

/// Waits until `condition` gives a value.
///
/// # Errors
/// When [`PATIENCE`] has passed; the sentence names `what`.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Result<T, Failed> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(Failed(format!("waited {} s in vain: {what}", PATIENCE.as_secs())));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Waits for one thing.
///
/// # Errors
/// When [`PATIENCE`] has passed; the sentence names `what`.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Failed> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| Failed(format!("waited {} s in vain: {what}", PATIENCE.as_secs())))
}
