//! The checker, checked: what is broken is named, what a correct broker can do is clean, and
//! broken brokers are caught.

mod cases;
mod model;
mod mutations;
mod random;
mod speed;
mod text;
