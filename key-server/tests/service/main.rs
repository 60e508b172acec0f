//! The whole key server in one process, attacked: each test is one rule and goes red without it.

mod administer;
mod batch;
mod budget;
mod cut_off;
mod denials;
mod follower;
mod hostile;
mod job;
mod present;
mod restart;
mod rig;
mod watch;
