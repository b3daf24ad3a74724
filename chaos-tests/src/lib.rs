//! Whole clusters, made of the real parts, broken on purpose.
//!
//! A [`lab::Lab`] is a cluster started the way a newcomer starts one (`skep dev`) and used through the command line
//! alone; what it brought about is checked with the `docker` program on the hosts' own sockets, so that Skep is never
//! its own witness. The [`story`] is told by the demo and is the end-to-end test.

pub mod alter;
pub mod balanced;
pub mod balancer;
pub mod lab;
pub mod life;
pub mod machine;
pub mod machine_part;
pub mod managers;
pub mod membership;
pub mod process;
pub mod registry;
pub mod secrets;
pub mod speed;
pub mod steps;
pub mod story;
pub mod summary;
