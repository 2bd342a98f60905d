//! How much of a machine one process takes.

/// How many threads of a process work at the same time: half of the cores, one at least.
///
/// Whatever yalo runs on a machine shares it with others: the nats-server, the store, other roles. Threads that have no core
/// of their own only wake each other for every message: on two cores, one of yalo and one of the nats-server instead of two
/// each save a quarter of the CPU of a turn (`yalobench turns`: 740 us, and 1,010 before), and an upload is a tenth faster.
pub fn half() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}
