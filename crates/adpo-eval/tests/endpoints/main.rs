//! Everything that asks over HTTP, against a local server that misbehaves.
#![cfg(feature = "http")]

mod classifier;
mod judge;
mod sample;
mod server;
