//! The broker against fake ports: crowds, cancelled leaders, panics, outages, wrong secrets, shutdown.

mod crowds;
mod failures;
mod fakes;
mod life;
mod stress;
