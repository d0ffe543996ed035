//! The plugin host as a whole: plugins written as text, compiled by the child process, run.
mod accept;
mod compile;
mod corpus;
mod engine;
mod generated;
mod hostile;
mod measured;
mod points;
mod replay;
mod rollout;
mod support;
mod text;
mod view;
mod worker;
