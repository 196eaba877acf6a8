//! A window of messages, of which the oldest is freed when another takes its place.

use super::worker::Worker;
use crate::measure::{ByHand, Measured};
use crate::track::Series;
use crate::workload::message_ring::{MESSAGE_BYTES, MessageRing};

/// A fresh message, every byte the low one of its number.
#[inline(always)]
fn message(number: u64) -> Box<[u8]> {
    vec![number as u8; MESSAGE_BYTES].into_boxed_slice()
}

pub(super) fn run(of: &MessageRing, bench: &ByHand) -> Measured {
    let (pushes, held, warm_up) = (of.size, of.held as usize, of.warm_up);
    let mut ring: Vec<Box<[u8]>> = (0..of.held).map(message).collect();
    let mut at = 0;
    let mut worker = Worker::new(bench, 1);
    for i in 0..warm_up {
        // Numbers count up to 0, where the measured part begins.
        ring[at] = message(i.wrapping_sub(warm_up));
        at = if at + 1 == held { 0 } else { at + 1 };
        worker.track.end(Series::Operation);
    }
    bench.begin();
    worker.start();
    for i in 0..pushes {
        worker.admit();
        ring[at] = message(i);
        at = if at + 1 == held { 0 } else { at + 1 };
        worker.track.end(Series::Operation);
    }
    worker.track.finish();
    bench.end();
    let checksum = ring.iter().map(|message| i64::from(message[MESSAGE_BYTES / 2] as i8)).sum();
    Measured::new(pushes, checksum, vec![worker.into_track()])
}
