//! Bytes of messages and attributes, both ways.

use super::flags;

pub(super) const HEADER_LENGTH: usize = 16;
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Messages or attributes under construction.
#[derive(Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }

    /// A header of fixed layout in front of attributes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.pad()
    }

    pub(crate) fn attribute(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let length = u16::try_from(payload.len() + ATTRIBUTE_HEADER_LENGTH)
            .expect("names, addresses and comments are bounded far below 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.pad()
    }

    /// rtnetlink's numbers are in the host's order.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// netfilter's numbers are in the network's order.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.attribute(kind, &terminated)
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Buffer)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; ATTRIBUTE_HEADER_LENGTH]);
        fill(self);
        let length = u16::try_from(self.0.len() - start).expect("element lists are split below 64 KiB by their writer");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self.pad()
    }

    pub(crate) fn message(&mut self, kind: u16, flags: u16, sequence: u32, fill: impl FnOnce(&mut Buffer)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(&flags.to_ne_bytes());
        self.0.extend_from_slice(&sequence.to_ne_bytes());
        self.0.extend_from_slice(&[0; 4]);
        fill(self);
        let length = u32::try_from(self.0.len() - start).expect("a message is bounded by its attributes");
        self.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Sets flags on a message that was written at `start`.
    pub(crate) fn add_flags(&mut self, start: usize, flags: u16) {
        let at = start + 6;
        let now = u16::from_ne_bytes([self.0[at], self.0[at + 1]]) | flags;
        self.0[at..at + 2].copy_from_slice(&now.to_ne_bytes());
    }

    /// Adds `first` to every message's sequence number.
    pub(crate) fn renumber(&mut self, first: u32) {
        let mut start = 0;
        while start < self.0.len() {
            let word = |at: usize| [self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]];
            let length = u32::from_ne_bytes(word(start)) as usize;
            let sequence = u32::from_ne_bytes(word(start + 8)).wrapping_add(first);
            self.0[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
            start += length;
        }
    }

    fn pad(&mut self) -> &mut Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// Several independent requests for one `sendto`. The kernel takes them in order and goes on after a failure, so
/// what depends on another's success belongs into a later set.
#[derive(Default)]
pub(crate) struct Requests {
    pub(super) buffer: Buffer,
    pub(super) count: u32,
}

impl Requests {
    pub(crate) fn push(&mut self, kind: u16, extra_flags: u16, fill: impl FnOnce(&mut Buffer)) {
        self.buffer.message(kind, flags::REQUEST | flags::ACK | extra_flags, self.count, fill);
        self.count += 1;
    }
}

/// `(type without flag bits, payload)` of every attribute in an area; ends at the first that is malformed.
pub(crate) fn attributes(mut area: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, _) = area.split_at_checked(ATTRIBUTE_HEADER_LENGTH)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & TYPE_MASK;
        let payload = area.get(ATTRIBUTE_HEADER_LENGTH..length)?;
        area = area.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, payload))
    })
}

/// The first attribute of a type.
pub(crate) fn find(area: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(area).find(|(found, _)| *found == kind).map(|(_, payload)| payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_attribute_is_length_type_payload_and_padding() {
        let mut buffer = Buffer::default();
        buffer.text(3, "eth0");
        let length_and_type = [9u16.to_ne_bytes(), 3u16.to_ne_bytes()].concat();
        assert_eq!(buffer.bytes(), [length_and_type.as_slice(), b"eth0\0\0\0\0"].concat());
    }

    #[test]
    fn nested_attributes_are_found_again() {
        let mut buffer = Buffer::default();
        buffer.nest(18, |nest| {
            nest.text(1, "veth").u32(2, 7);
        });
        let inner = find(buffer.bytes(), 18).unwrap();
        assert_eq!(find(inner, 1), Some(b"veth\0".as_slice()));
        assert_eq!(find(inner, 2), Some(7u32.to_ne_bytes().as_slice()));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_without_panic(area in prop::collection::vec(any::<u8>(), 0..256)) {
            for (_, payload) in attributes(&area) {
                prop_assert!(payload.len() <= area.len());
            }
        }
    }
}
