//! Tar archives from raw header bytes, so that bad ones are as easy to make as good ones.

const BLOCK: usize = 512;

/// One entry's header. `size` is what the header claims; the content may have another.
#[derive(Clone)]
pub(crate) struct Header<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u8,
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
}

impl Default for Header<'_> {
    fn default() -> Self {
        Self { name: b"", kind: b'0', link: b"", mode: 0o644, uid: 0, gid: 0, size: 0, device: (0, 0) }
    }
}

impl Header<'_> {
    fn bytes(&self) -> [u8; BLOCK] {
        let mut block = [0u8; BLOCK];
        put(&mut block, 0, 100, self.name);
        put(&mut block, 100, 8, format!("{:07o}\0", self.mode).as_bytes());
        put(&mut block, 108, 8, format!("{:07o}\0", self.uid).as_bytes());
        put(&mut block, 116, 8, format!("{:07o}\0", self.gid).as_bytes());
        put(&mut block, 124, 12, format!("{:011o}\0", self.size).as_bytes());
        put(&mut block, 136, 12, b"00000000000\0");
        put(&mut block, 148, 8, b"        ");
        block[156] = self.kind;
        put(&mut block, 157, 100, self.link);
        put(&mut block, 257, 8, b"ustar\x0000");
        put(&mut block, 329, 8, format!("{:07o}\0", self.device.0).as_bytes());
        put(&mut block, 337, 8, format!("{:07o}\0", self.device.1).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut block, 148, 8, format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

fn put(block: &mut [u8; BLOCK], at: usize, room: usize, value: &[u8]) {
    assert!(value.len() <= room, "{:?} does not fit a header field of {room} bytes", String::from_utf8_lossy(value));
    block[at..at + value.len()].copy_from_slice(value);
}

#[derive(Clone, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn entry(mut self, header: &Header<'_>, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(&header.bytes());
        self.raw(content)
    }

    /// Bytes as they are, filled up to a whole block.
    pub(crate) fn raw(mut self, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub(crate) fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        let header = Header { name: name.as_bytes(), mode, size: content.len() as u64, ..Header::default() };
        self.entry(&header, content)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(&Header { name: name.as_bytes(), kind: b'5', mode: 0o755, ..Header::default() }, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let header =
            Header { name: name.as_bytes(), kind: b'2', link: target.as_bytes(), mode: 0o777, ..Header::default() };
        self.entry(&header, b"")
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(&Header { name: name.as_bytes(), kind: b'1', link: target.as_bytes(), ..Header::default() }, b"")
    }

    pub(crate) fn char_device(self, name: &str, major: u32, minor: u32) -> Self {
        let header =
            Header { name: name.as_bytes(), kind: b'3', mode: 0o666, device: (major, minor), ..Header::default() };
        self.entry(&header, b"")
    }

    pub(crate) fn fifo(self, name: &str) -> Self {
        self.entry(&Header { name: name.as_bytes(), kind: b'6', ..Header::default() }, b"")
    }

    /// A PAX header for the next entry: each record `LENGTH NAME=VALUE\n`.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (name, value) in records {
            let rest = name.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            content.extend_from_slice(format!("{length} {name}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        let header = Header { name: b"pax", kind: b'x', size: content.len() as u64, ..Header::default() };
        self.entry(&header, &content)
    }

    /// The archive with its two blocks of zeroes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    /// The archive as cut off: without an end.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}
