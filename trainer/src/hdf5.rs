//! Reading the HDF5 weights files that Keras wrote, without libhdf5 and without trusting the file.
//!
//! Such a file is a tree of groups with arrays of floats as leaves. This reader knows the oldest layout of groups (symbol
//! tables), little-endian 32-bit floats, and values that lie in one piece; chunks, compression, links, other types and the
//! newer layouts are refused. Attributes are passed over.
//!
//! # Source
//! "HDF5 File Format Specification", version 3.0, sections II.A to IV.A

use std::collections::BTreeMap;

use crate::torch_file::Array;

/// How a file is malformed, or more than this reader allows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// Something lies, as a whole or in part, behind the file's end.
    #[error("something of {length} bytes at byte {at} is not inside of the file")]
    Outside {
        /// Where it should begin.
        at: u64,
        /// How long it should be.
        length: u64,
    },
    /// Something else than expected.
    #[error("expected {what} at byte {at}")]
    Expected {
        /// What.
        what: &'static str,
        /// Where it should be.
        at: u64,
    },
    /// An object's property that weights have no use for.
    #[error("the object at byte {at} has a message of type {kind:#06x}, which is not allowed")]
    Message {
        /// The type's number.
        kind: u16,
        /// Where the object's header is.
        at: u64,
    },
    /// Groups inside of groups inside of groups, or parts that are their own parts.
    #[error("the file has too many parts, or they are nested too deeply")]
    Size,
}

type Result<T, E = FormatError> = std::result::Result<T, E>;

/// Parts that are looked at: headers, and nodes of the groups' trees.
const MOST_PARTS: usize = 4096;

/// Groups from the root to an array.
const MOST_LEVELS: usize = 16;

/// From the root of a group's tree to its leaves: enough for more names than parts are allowed.
const HIGHEST_TREE: u8 = 8;

/// Weights of convolutions have four.
const MOST_DIMENSIONS: usize = 8;

/// Bytes of a group's entry in a symbol table.
const ENTRY: u64 = 40;

/// A datatype message: IEEE 754 binary32, little-endian.
const FLOAT: [u8; 20] = [0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];

/// Reads all arrays, by their paths: the names of the groups around them and their own, with slashes between.
///
/// # Errors
/// [`FormatError`] for anything but groups with arrays of floats in one piece
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    let mut reader = Reader { bytes, parts: 0, values: bytes.len() / 4, arrays: BTreeMap::new() };
    reader.expect(0, b"\x89HDF\r\n\x1a\n", "HDF5's signature")?;
    reader.expect(8, &[0, 0, 0, 0, 0, 8, 8, 0], "a superblock of version 0 with offsets and lengths of 8 bytes")?;
    reader.expect(24, &[0; 8], "0 as the base of all addresses")?;
    reader.expect(40, &(bytes.len() as u64).to_le_bytes(), "the length of the file")?;
    let root = reader.u64(64)?;
    reader.object("", root, 0)?;
    Ok(reader.arrays)
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Seen until now.
    parts: usize,
    /// That may still be read: no value is in two arrays.
    values: usize,
    arrays: BTreeMap<String, Array>,
}

/// The messages of an object's header that matter here, each as place and length.
#[derive(Default)]
struct Header {
    group: Option<(u64, u64)>,
    space: Option<(u64, u64)>,
    element: Option<(u64, u64)>,
    layout: Option<(u64, u64)>,
}

impl<'a> Reader<'a> {
    fn take(&self, at: u64, length: u64) -> Result<&'a [u8]> {
        let range = || Some(usize::try_from(at).ok()?..usize::try_from(at.checked_add(length)?).ok()?);
        range().and_then(|range| self.bytes.get(range)).ok_or(FormatError::Outside { at, length })
    }

    fn expect(&self, at: u64, expected: &[u8], what: &'static str) -> Result<()> {
        let found = self.take(at, expected.len() as u64)?;
        if found == expected { Ok(()) } else { Err(FormatError::Expected { what, at }) }
    }

    fn u16(&self, at: u64) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(at, 2)?.try_into().expect("two bytes")))
    }

    fn u32(&self, at: u64) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(at, 4)?.try_into().expect("four bytes")))
    }

    fn u64(&self, at: u64) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(at, 8)?.try_into().expect("eight bytes")))
    }

    fn count_part(&mut self) -> Result<()> {
        self.parts += 1;
        if self.parts > MOST_PARTS { Err(FormatError::Size) } else { Ok(()) }
    }

    /// A group with all that is in it, or an array.
    fn object(&mut self, path: &str, at: u64, level: usize) -> Result<()> {
        self.count_part()?;
        if level > MOST_LEVELS {
            return Err(FormatError::Size);
        }
        match self.header(at)? {
            Header { group: Some((message, _)), space: None, element: None, layout: None } => {
                let (tree, heap) = (self.u64(message)?, self.u64(message + 8)?);
                self.expect(heap, b"HEAP\0", "a heap of names of version 0")?;
                let names = self.u64(heap + 24)?;
                self.tree(path, tree, None, names, level)
            }
            Header { group: None, space: Some(space), element: Some((element, _)), layout: Some((layout, _)) } => {
                self.expect(element, &FLOAT, "32-bit floats, little-endian")?;
                let array = self.array(space, layout)?;
                match self.arrays.insert(path.to_owned(), array) {
                    None => Ok(()),
                    Some(_) => Err(FormatError::Expected { what: "every name once", at }),
                }
            }
            _ => Err(FormatError::Expected { what: "a group or an array", at }),
        }
    }

    /// The messages of an object's header.
    fn header(&mut self, at: u64) -> Result<Header> {
        self.expect(at, &[1, 0], "an object's header of version 1")?;
        let mut left = self.u16(at + 2)?;
        let mut header = Header::default();
        let mut blocks = vec![(at + 16, u64::from(self.u32(at + 8)?))];
        while let Some((mut here, length)) = blocks.pop() {
            self.count_part()?;
            self.take(here, length)?;
            let end = here + length;
            while left > 0 && here < end {
                left -= 1;
                let (kind, length) = (self.u16(here)?, u64::from(self.u16(here + 2)?));
                let body = (here + 8, length);
                self.take(body.0, body.1)?;
                let place = match kind {
                    // Nothing, fill values old and new, attributes, times of changes old and new.
                    0x00 | 0x04 | 0x05 | 0x0c | 0x0e | 0x12 => None,
                    0x10 => {
                        blocks.push((self.u64(body.0)?, self.u64(body.0 + 8)?));
                        None
                    }
                    0x01 => Some(&mut header.space),
                    0x03 => Some(&mut header.element),
                    0x08 => Some(&mut header.layout),
                    0x11 => Some(&mut header.group),
                    _ => return Err(FormatError::Message { kind, at }),
                };
                if let Some(place) = place {
                    // The second bit says that the message lies elsewhere, shared with other objects.
                    let is_shared = self.take(here + 4, 1)?[0] & 2 != 0;
                    if is_shared || place.replace(body).is_some() {
                        return Err(FormatError::Expected { what: "every message once, and here", at: here });
                    }
                }
                here = body.0 + length;
            }
        }
        Ok(header)
    }

    /// The objects under a node of a group's tree; `names` is where the group's names begin.
    fn tree(&mut self, path: &str, at: u64, height: Option<u8>, names: u64, level: usize) -> Result<()> {
        self.count_part()?;
        self.expect(at, b"TREE\0", "a node of a group's tree")?;
        let found = self.take(at + 5, 1)?[0];
        if found > HIGHEST_TREE || height.is_some_and(|height| height != found) {
            return Err(FormatError::Expected { what: "a node one below the one above it", at });
        }
        // After the node's neighbours, keys and children take turns, beginning with a key.
        for index in 0..u64::from(self.u16(at + 6)?) {
            let child = self.u64(at + 24 + 8 + 16 * index)?;
            match found.checked_sub(1) {
                Some(below) => self.tree(path, child, Some(below), names, level)?,
                None => self.symbols(path, child, names, level)?,
            }
        }
        Ok(())
    }

    /// The objects of a symbol table's node.
    fn symbols(&mut self, path: &str, at: u64, names: u64, level: usize) -> Result<()> {
        self.count_part()?;
        self.expect(at, b"SNOD\x01", "a node of a symbol table of version 1")?;
        for index in 0..u64::from(self.u16(at + 6)?) {
            let entry = at + 8 + ENTRY * index;
            if self.u32(entry + 16)? > 1 {
                return Err(FormatError::Expected { what: "a group or an array, not a link", at: entry });
            }
            let name = self.name(names.saturating_add(self.u64(entry)?))?;
            let inner = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            self.object(&inner, self.u64(entry + 8)?, level + 1)?;
        }
        Ok(())
    }

    fn name(&self, at: u64) -> Result<&'a str> {
        let wrong = FormatError::Expected { what: "a name in UTF-8", at };
        let rest = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let name = rest.iter().position(|&byte| byte == 0).and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        name.filter(|name| !name.is_empty()).ok_or(wrong)
    }

    /// The values whose dataspace and layout messages these are.
    fn array(&mut self, (space, length): (u64, u64), layout: u64) -> Result<Array> {
        self.expect(space, &[1], "a dataspace of version 1")?;
        let rank = usize::from(self.take(space + 1, 1)?[0]);
        if rank == 0 || rank > MOST_DIMENSIONS || length < 8 + 8 * rank as u64 {
            return Err(FormatError::Expected { what: "1 to 8 dimensions", at: space });
        }
        let dims = (0..rank as u64).map(|axis| self.u64(space + 8 + 8 * axis)).collect::<Result<Vec<_>>>()?;
        let dims: Vec<usize> = dims.into_iter().map(|dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();

        self.expect(layout, &[3, 1], "values in one piece, in a layout of version 3")?;
        let (at, n_bytes) = (self.u64(layout + 2)?, self.u64(layout + 10)?);
        let n = dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)).filter(|&n| n <= self.values);
        let n = n.filter(|&n| n as u64 * 4 == n_bytes);
        let n = n.ok_or(FormatError::Expected { what: "as many values as the shape says", at: layout })?;
        self.values -= n;
        let values = self.take(at, n_bytes)?.chunks_exact(4);
        let values = values.map(|value| f32::from_le_bytes(value.try_into().expect("four bytes"))).collect();
        Ok(Array { dims, values })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const ROOT: usize = 96;
    const TREE: usize = 136;
    const HEAP: usize = 192;
    const SYMBOLS: usize = 256;
    const ARRAY: usize = 304;
    const SPACE: usize = ARRAY + 16;
    const ELEMENT: usize = SPACE + 32;
    const LAYOUT: usize = 424;

    /// A file with the array `a` of 1×2 values; its header goes on elsewhere.
    fn file() -> Vec<u8> {
        let mut file = vec![0; 464];
        let mut put = |at: usize, parts: &[&[u8]]| {
            let bytes = parts.concat();
            file[at..at + bytes.len()].copy_from_slice(&bytes);
        };
        let long = |value: usize| (value as u64).to_le_bytes();
        let message = |kind: u8, length: u8| [kind, 0, length, 0, 0, 0, 0, 0];
        put(0, &[b"\x89HDF\r\n\x1a\n", &[0, 0, 0, 0, 0, 8, 8, 0]]);
        put(40, &[&long(464)]);
        put(64, &[&long(ROOT)]);
        put(ROOT, &[&[1, 0, 1, 0, 1, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0], &message(0x11, 16), &long(TREE), &long(HEAP)]);
        put(TREE, &[b"TREE\0\0\x01\0", &[0xff; 16], &long(0), &long(SYMBOLS)]);
        put(HEAP, &[b"HEAP\0\0\0\0", &long(16), &[0xff; 8], &long(HEAP + 32), &long(0), b"a"]);
        put(SYMBOLS, &[b"SNOD\x01\0\x01\0", &long(8), &long(ARRAY)]);
        put(ARRAY, &[&[1, 0, 4, 0, 1, 0, 0, 0, 88, 0, 0, 0, 0, 0, 0, 0]]);
        put(SPACE, &[&message(1, 24), &[1, 2, 0, 0, 0, 0, 0, 0], &long(1), &long(2)]);
        put(ELEMENT, &[&message(3, 24), &FLOAT, &[0; 4]]);
        put(ELEMENT + 32, &[&message(0x10, 16), &long(LAYOUT), &long(32)]);
        put(LAYOUT, &[&message(8, 24), &[3, 1], &long(456), &long(8)]);
        put(456, &[&1.5f32.to_le_bytes(), &(-2.0f32).to_le_bytes()]);
        file
    }

    #[test]
    fn arrays_are_read_with_their_shapes() {
        let arrays = read(&file()).unwrap();
        assert_eq!(arrays, BTreeMap::from([("a".to_owned(), Array { dims: vec![1, 2], values: vec![1.5, -2.0] })]));
    }

    #[test]
    fn what_weights_have_no_use_for_is_refused() {
        #[track_caller]
        fn check(at: usize, bytes: &[u8], sentence: &str) {
            let mut file = file();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(sentence), "{error:?} does not say {sentence:?}");
        }
        check(0, b"x", "HDF5's signature at byte 0");
        check(8, &[2], "a superblock of version 0");
        check(24, &[1], "0 as the base of all addresses");
        check(40, &[1], "the length of the file");
        check(ROOT, b"OHDR", "an object's header of version 1");
        check(SYMBOLS + 24, &[2], "not a link");
        check(HEAP + 40, &[0], "a name in UTF-8");
        check(SPACE, &[0x0b], "a message of type 0x000b, which is not allowed");
        check(SPACE + 4, &[2], "every message once, and here");
        check(SPACE, &[3], "every message once, and here");
        check(SPACE, &[0], "a group or an array at byte 304");
        check(SPACE + 8, &[2], "a dataspace of version 1");
        check(SPACE + 9, &[0], "1 to 8 dimensions");
        check(SPACE + 16, &[0xff; 8], "as many values as the shape says");
        check(SPACE + 24, &[3], "as many values as the shape says");
        check(ELEMENT + 8, &[0x11, 0x21], "32-bit floats, little-endian");
        check(LAYOUT + 9, &[2], "values in one piece");
        check(LAYOUT + 10, &[0xff; 8], "is not inside of the file");
    }

    #[test]
    fn parts_of_themselves_come_to_an_end() {
        let mut itself = file();
        itself[SYMBOLS + 16..][..8].copy_from_slice(&(ROOT as u64).to_le_bytes());
        assert_eq!(read(&itself), Err(FormatError::Size));
        let mut chain = file();
        chain[TREE + 5] = 3;
        chain[TREE + 32..][..8].copy_from_slice(&(TREE as u64).to_le_bytes());
        let what = "a node one below the one above it";
        assert_eq!(read(&chain), Err(FormatError::Expected { what, at: TREE as u64 }));
        let mut header = file();
        header.copy_within(ELEMENT + 32..ELEMENT + 56, LAYOUT);
        assert_eq!(read(&header), Err(FormatError::Expected { what: "a group or an array", at: ARRAY as u64 }));
    }

    #[test]
    fn no_change_of_a_byte_makes_it_panic() {
        let file = file();
        for at in 0..file.len() {
            for value in [0, 1, 0x10, 0x7f, 0xff] {
                let mut changed = file.clone();
                changed[at] = value;
                let _ = read(&changed);
                changed[at..].iter_mut().take(8).for_each(|byte| *byte = value);
                let _ = read(&changed);
            }
            assert!(read(&file[..at]).is_err());
        }
    }
}
