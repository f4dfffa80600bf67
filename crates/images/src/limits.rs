//! Every limit on what an image or a registry may ask of us, in one place, each with its reason.

/// A manifest, index or image configuration. The registry specification asks servers to accept 4 MiB and clients need no more.
pub const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
/// An index may name an index; more than this deep is a loop or a joke.
pub const MAX_INDEX_DEPTH: u32 = 3;
/// Manifests in one index.
pub const MAX_INDEX_ENTRIES: usize = 1024;
/// overlayfs takes 500 lower directories, Docker 128 layers; no builder makes more than 127.
pub const MAX_LAYERS: usize = 128;
/// One layer's blob, compressed.
pub const MAX_BLOB_BYTES: u64 = 32 << 30;
/// One layer, decompressed, and the sum of its files' logical sizes (holes count).
pub const MAX_LAYER_BYTES: u64 = 64 << 30;
/// Files, directories and links in one layer. The largest images in use have some 600,000.
pub const MAX_LAYER_ENTRIES: u64 = 2_000_000;
/// PATH_MAX without its NUL: a longer path could not be opened by a container either.
pub const MAX_PATH_BYTES: usize = 4095;
/// Directories above a file in a layer.
pub const MAX_PATH_DEPTH: usize = 256;
/// Decompressed bytes for each compressed byte, once `RATIO_FREE_BYTES` have come out. A layer of zeros reaches 1030:1
/// with gzip, real ones stay below 100:1.
pub const MAX_COMPRESSION_RATIO: u64 = 300;
/// What a layer may expand to before its ratio is looked at.
pub const RATIO_FREE_BYTES: u64 = 64 << 20;
/// zstd's window as a power of two: 64 MiB of memory for each layer in hand. Builders stay at 8 MiB; `--long=31` would
/// take 2 GiB.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 26;
/// One PAX header or GNU long name; Go's archive/tar has the same limit.
pub const MAX_TAR_SPECIAL_BYTES: u64 = 1024 * 1024;
/// Segments of one sparse file.
pub const MAX_SPARSE_SEGMENTS: usize = 65_536;
/// Extended attributes of one file that are kept, and the size of one (the kernel's XATTR_SIZE_MAX).
pub const MAX_XATTRS: usize = 64;
pub const MAX_XATTR_BYTES: usize = 65_536;
/// Entries in an image archive (docker-save or OCI), which are blobs and a few documents.
pub const MAX_ARCHIVE_ENTRIES: usize = 2_000_000;
/// Images in one archive.
pub const MAX_ARCHIVE_IMAGES: usize = 1024;
/// How much is read, hashed and written at a time.
pub const BUFFER_BYTES: usize = 256 * 1024;
/// Memory for directories whose modes and times are set when a layer is complete.
pub const MAX_DIRECTORY_BYTES: usize = 64 << 20;
/// Redirects of one request.
pub const MAX_REDIRECTS: u32 = 5;
/// Times one request is answered with a new `401` after credentials or a token were sent.
pub const MAX_CHALLENGES: u32 = 2;
/// A token endpoint's answer, and a credentials file.
pub const MAX_TOKEN_BYTES: u64 = 1024 * 1024;
/// Attempts in a row that bring nothing new: no answer, `429`, `5xx`, or a download that breaks at the same byte.
pub const MAX_FRUITLESS_ATTEMPTS: u32 = 5;
/// Attempts where no connection comes about: nobody listens, or nobody knows the name. Waiting seldom changes that.
pub const MAX_CONNECTING_ATTEMPTS: u32 = 3;
/// Attempts for one blob altogether, however little each brings.
pub const MAX_ATTEMPTS: u32 = 100;
/// Stalls of one blob after which its registry is given up.
pub const MAX_STALLS: u32 = 2;
/// The longest that a registry's `Retry-After` is obeyed; seconds.
pub const MAX_RETRY_AFTER_S: u64 = 60;
/// A download must bring so many bytes a second, measured over `Deadlines::speed_window`.
pub const MIN_BYTES_PER_SECOND: u64 = 1024;
/// Pieces of a download that may wait for the unpacker.
pub const MAX_WAITING_CHUNKS: usize = 32;
