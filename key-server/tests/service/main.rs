//! The whole key server in one process, attacked: each test is one rule and goes red without it.

mod admin_sets;
mod administer;
mod alarms;
mod batch;
mod budget;
mod cut_off;
mod denials;
mod evidence;
mod exposure;
mod feed;
mod follower;
mod hostile;
mod issuer;
mod job;
mod keks;
mod key_pairs;
mod logs;
mod model;
mod present;
mod receipts;
mod restart;
mod rig;
mod roots;
mod watch;
mod witnessing;
mod wraps;
