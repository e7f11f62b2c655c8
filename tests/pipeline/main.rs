//! The pipeline file: what is read, what is refused and how that looks, and that nothing makes the reader fall over.

mod kinds;
mod mutations;
mod reading;
mod real;
mod refusals;
