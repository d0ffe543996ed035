//! The plugin host as a whole: plugins written as text, compiled by the child process, run.
mod accept;
mod compile;
mod hostile;
mod points;
mod rollout;
mod support;
mod worker;
