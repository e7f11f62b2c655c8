//! A real JupyterHub with its proxy, real servers of users and real kernels. The first run downloads some 150 MB into
//! `~/.cache/piton-test` (or `$PITON_TEST_CACHE`).

mod gate;
mod story;
mod world;
