//! The few kinds of MessagePack that fluentd's forward protocol needs
//! (<https://github.com/msgpack/msgpack/blob/master/spec.md>). Each value takes its shortest form.

use ecs::Timestamp;

/// Fluentd's EventTime: extension type 0, seconds and nanoseconds, big-endian
/// (<https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>).
const EVENT_TIME: u8 = 0;

pub(super) fn array(length: usize, out: &mut Vec<u8>) {
    match length {
        0..=15 => out.push(0x90 | length as u8),
        16..=0xffff => sized(0xdc, &(length as u16).to_be_bytes(), out),
        _ => sized(0xdd, &(length as u32).to_be_bytes(), out),
    }
}

pub(super) fn map(length: usize, out: &mut Vec<u8>) {
    match length {
        0..=15 => out.push(0x80 | length as u8),
        16..=0xffff => sized(0xde, &(length as u16).to_be_bytes(), out),
        _ => sized(0xdf, &(length as u32).to_be_bytes(), out),
    }
}

/// Strings are bytes: what a container writes need not be UTF-8.
pub(super) fn string(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes.len() {
        length @ 0..=31 => out.push(0xa0 | length as u8),
        length @ 32..=0xff => sized(0xd9, &[length as u8], out),
        length @ 0x100..=0xffff => sized(0xda, &(length as u16).to_be_bytes(), out),
        length => sized(0xdb, &(length as u32).to_be_bytes(), out),
    }
    out.extend_from_slice(bytes);
}

pub(super) fn unsigned(number: u64, out: &mut Vec<u8>) {
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => sized(0xcc, &[number as u8], out),
        0x100..=0xffff => sized(0xcd, &(number as u16).to_be_bytes(), out),
        0x1_0000..=0xffff_ffff => sized(0xce, &(number as u32).to_be_bytes(), out),
        _ => sized(0xcf, &number.to_be_bytes(), out),
    }
}

pub(super) fn event_time(time: Timestamp, out: &mut Vec<u8>) {
    let (seconds, milliseconds) = (time.epoch_ms / 1000, time.epoch_ms % 1000);
    out.extend_from_slice(&[0xd7, EVENT_TIME]);
    // The protocol's seconds end in 2106.
    out.extend_from_slice(&(seconds as u32).to_be_bytes());
    out.extend_from_slice(&((milliseconds * 1_000_000) as u32).to_be_bytes());
}

fn sized(kind: u8, length: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    /// The first bytes of each format, from the specification's table.
    #[test]
    fn each_length_has_the_specifications_first_byte() {
        let table: [(Vec<u8>, &[u8]); 14] = [
            (written(|out| array(15, out)), &[0x9f]),
            (written(|out| array(16, out)), &[0xdc, 0, 16]),
            (written(|out| array(0x1_0000, out)), &[0xdd, 0, 1, 0, 0]),
            (written(|out| map(2, out)), &[0x82]),
            (written(|out| map(16, out)), &[0xde, 0, 16]),
            (written(|out| string(b"compact", out)), b"\xa7compact"),
            (written(|out| string(&[b'x'; 32], out))[..2].to_vec(), &[0xd9, 32]),
            (written(|out| string(&[b'x'; 256], out))[..3].to_vec(), &[0xda, 1, 0]),
            (written(|out| string(&[b'x'; 0x1_0000], out))[..5].to_vec(), &[0xdb, 0, 1, 0, 0]),
            (written(|out| unsigned(127, out)), &[0x7f]),
            (written(|out| unsigned(128, out)), &[0xcc, 0x80]),
            (written(|out| unsigned(0x1234, out)), &[0xcd, 0x12, 0x34]),
            (written(|out| unsigned(1_441_588_984, out)), &[0xce, 0x55, 0xec, 0xe6, 0xf8]),
            (
                written(|out| event_time(Timestamp::from_epoch_ms(1_441_588_984_250), out)),
                &[0xd7, 0, 0x55, 0xec, 0xe6, 0xf8, 0x0e, 0xe6, 0xb2, 0x80],
            ),
        ];
        for (place, (written, expected)) in table.iter().enumerate() {
            assert_eq!(written, expected, "row {place}");
        }
    }
}
