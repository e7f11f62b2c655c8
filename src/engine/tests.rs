mod guard;
mod laws;
mod stories;
mod story;
