//! Harm from outside: files, disks, servers and connections that are not as they should be. Each is said plainly, and
//! nothing is lost.

mod disks;
mod files;
mod frames;
mod lines;
mod raw;
mod servers;
mod tail;
mod talks;
