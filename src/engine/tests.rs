mod laws;
mod stories;
mod story;
