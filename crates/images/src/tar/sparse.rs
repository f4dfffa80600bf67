//! The three ways in which archives say where a sparse file's bytes belong.

use super::header::{self, Block, Header};
use super::pax::{self, Records};
use crate::limits::MAX_SPARSE_SEGMENTS;

/// A stretch of stored bytes, at its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Which map a member has, and where the rest of it is.
pub(super) enum Map {
    /// In PAX records, whole.
    Whole(Vec<Segment>),
    /// In the first blocks of the member's data (version 1.0).
    InData,
}

/// GNU's PAX formats 0.0, 0.1 and 1.0. Changes the header's name and size to the file's real ones.
pub(super) fn from_pax(records: &Records, header: &mut Header) -> Result<Option<Map>, String> {
    let version = (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor"));
    let in_data = match version {
        (Some(b"0"), Some(b"0" | b"1")) => false,
        (Some(b"1"), Some(b"0")) => true,
        (None, None) if records.get("GNU.sparse.map").is_some() => false,
        (None, None) => return Ok(None),
        (_, _) => return Err("its sparse format has an unknown version".to_owned()),
    };
    if let Some(name) = records.get("GNU.sparse.name") {
        if name.contains(&0) {
            return Err("its name has a NUL".to_owned());
        }
        header.name = name.to_vec();
    }
    if let Some(size) = records.get("GNU.sparse.size").or(records.get("GNU.sparse.realsize")) {
        header.size = pax::decimal(size).ok_or("its sparse size is not a number")?;
    }
    if in_data {
        return Ok(Some(Map::InData));
    }
    let count = records.get("GNU.sparse.numblocks").and_then(pax::decimal).ok_or("its sparse map has no count")?;
    let numbers: Option<Vec<i64>> = match records.get("GNU.sparse.map") {
        Some(map) => map.split(|byte| *byte == b',').take(2 * MAX_SPARSE_SEGMENTS + 2).map(pax::decimal).collect(),
        None => Some(Vec::new()),
    };
    let numbers = numbers.ok_or("its sparse map is not a list of numbers")?;
    if usize::try_from(count).ok().and_then(|count| count.checked_mul(2)) != Some(numbers.len()) {
        return Err("its sparse map does not have as many segments as it says".to_owned());
    }
    Ok(Some(Map::Whole(segments(&numbers)?)))
}

/// Offset and length pairs of the old GNU header, or of one of the blocks that continue it. The flag says whether another follows.
pub(super) fn from_block(block: &Block, is_first: bool, into: &mut Vec<i64>) -> Result<bool, String> {
    let (entries, is_extended) = if is_first { (&block[386..482], block[482]) } else { (&block[0..504], block[504]) };
    for entry in entries.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        let number = |field: &[u8]| header::numeric(field).ok_or("its sparse map is not made of numbers".to_owned());
        into.push(number(&entry[..12])?);
        into.push(number(&entry[12..])?);
    }
    if into.len() > 2 * MAX_SPARSE_SEGMENTS {
        return Err(format!("its sparse map has more than {MAX_SPARSE_SEGMENTS} segments"));
    }
    Ok(is_extended > 0)
}

/// The real size in an old GNU header.
pub(super) fn real_size(block: &Block) -> Option<i64> {
    header::numeric(&block[483..495])
}

pub(super) fn segments(numbers: &[i64]) -> Result<Vec<Segment>, String> {
    if numbers.len() > 2 * MAX_SPARSE_SEGMENTS {
        return Err(format!("its sparse map has more than {MAX_SPARSE_SEGMENTS} segments"));
    }
    numbers
        .chunks_exact(2)
        .map(|pair| match (u64::try_from(pair[0]), u64::try_from(pair[1])) {
            (Ok(offset), Ok(length)) => Ok(Segment { offset, length }),
            _ => Err("its sparse map has a negative number".to_owned()),
        })
        .collect()
}

/// In order, without overlap, within the file, and exactly as long as what is stored.
pub(super) fn check(segments: &[Segment], size: u64, stored: u64) -> Result<(), String> {
    let (mut end, mut sum) = (0u64, 0u64);
    for segment in segments {
        if segment.offset < end {
            return Err("its sparse map is out of order".to_owned());
        }
        end = segment.offset.checked_add(segment.length).ok_or("its sparse map is too large")?;
        sum += segment.length;
    }
    if end > size {
        return Err("its sparse map goes past its end".to_owned());
    }
    if sum != stored {
        return Err("its sparse map does not cover what is stored".to_owned());
    }
    Ok(())
}
