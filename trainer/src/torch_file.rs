//! Reading torch's old weights files (before it used zip archives) without torch and without trusting the file.
//!
//! Such a file is four pickles (magic number, protocol, system facts, the dictionary of tensors), a fifth with the
//! order of storages, and then each storage as a count and raw little-endian values. A pickle is a program for a small
//! stack machine that may call anything; this machine knows four names and calls nothing. Values are kept in one list
//! and refer to each other by position, so that no file can make it copy or recurse.

use std::collections::BTreeMap;

/// How a file is malformed, or more than this reader allows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// It ends too early.
    #[error("the file ends at byte {0}, in the middle of something")]
    Truncated(usize),
    /// It goes on after its last storage.
    #[error("the file goes on after byte {0}, where it should end")]
    Trailing(usize),
    /// Not such a file at all.
    #[error("the file does not begin like a weights file of torch's old format")]
    Magic,
    /// A pickle instruction that weights have no use for.
    #[error("instruction {code:#04x} at byte {at} is not allowed")]
    Instruction {
        /// The instruction.
        code: u8,
        /// Where it stands.
        at: usize,
    },
    /// A name that weights have no use for.
    #[error("the name {0:?} is not allowed")]
    Name(String),
    /// Something else than expected.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A tensor that reaches outside of its storage.
    #[error("tensor {0:?} reaches outside of its storage")]
    OutOfBounds(String),
}

/// Weights of convolutions have four.
const MOST_DIMENSIONS: usize = 8;

type Result<T, E = FormatError> = std::result::Result<T, E>;

/// A tensor of floats, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Shape.
    pub dims: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// Reads all tensors of floats; those of integers (counters) are passed over.
///
/// # Errors
/// [`FormatError`] for anything but a complete file with nothing in it but tensors
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    /// What torch writes first, as the pickle of one long integer: instructions PROTO 2, LONG1 of ten bytes, STOP.
    const MAGIC: [u8; 15] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
    if !bytes.starts_with(&MAGIC) {
        return Err(FormatError::Magic);
    }
    let mut reader = Reader { bytes, at: MAGIC.len() };
    for _protocol_and_system in 0..2 {
        Machine::run(&mut reader)?;
    }
    let (machine, root) = Machine::run(&mut reader)?;
    let (orders, order) = Machine::run(&mut reader)?;

    let mut tensors = BTreeMap::new();
    let mut expected = BTreeMap::new();
    for &(name, tensor) in machine.dict(root)? {
        let tensor = machine.tensor(tensor)?;
        expected.insert(machine.text(tensor.storage.key)?, tensor.storage);
        if tensors.insert(machine.text(name)?, tensor).is_some() {
            return Err(FormatError::Expected("every name once"));
        }
    }
    let mut storages = BTreeMap::new();
    for &key in orders.list(order)? {
        let key = orders.text(key)?;
        let storage = expected.get(key).ok_or(FormatError::Expected("storages that tensors use"))?;
        let count = reader.u64()?;
        if count != storage.count {
            return Err(FormatError::Expected("storages of the size their tensors say"));
        }
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(storage.kind.bytes()));
        let data = reader.take(length.ok_or(FormatError::Truncated(bytes.len()))?)?;
        storages.insert(key, data);
    }
    if reader.at != bytes.len() {
        return Err(FormatError::Trailing(reader.at));
    }
    let mut arrays = BTreeMap::new();
    // Tensors that share values could make a small file grow without end; weights share none.
    let mut budget = bytes.len() / Kind::Float.bytes();
    for (name, tensor) in tensors.into_iter().filter(|(_, tensor)| tensor.storage.kind == Kind::Float) {
        let data =
            storages.get(machine.text(tensor.storage.key)?).ok_or(FormatError::Expected("a storage per tensor"))?;
        let array = tensor.gather(data, budget).ok_or_else(|| FormatError::OutOfBounds(name.to_owned()))?;
        budget -= array.values.len();
        arrays.insert(name.to_owned(), array);
    }
    Ok(arrays)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.ok_or(FormatError::Truncated(self.bytes.len()))?];
        self.at += n;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().expect("two bytes")))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&b| b == b'\n').ok_or(FormatError::Truncated(self.bytes.len()))?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| FormatError::Expected("names in UTF-8"))
    }
}

/// Position of an object in the machine's list.
type Id = usize;

#[derive(Clone, Debug)]
enum Object {
    Text(String),
    Int(i64),
    /// Tuple or list.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage(Storage),
    Tensor(Tensor),
    /// Something that was read and does not matter: a long integer, a truth value, nothing.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    RebuildTensor,
    OrderedDict,
    Storage(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Float,
    Long,
}

impl Kind {
    const fn bytes(self) -> usize {
        match self {
            Self::Float => 4,
            Self::Long => 8,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Storage {
    kind: Kind,
    /// A text.
    key: Id,
    count: u64,
}

#[derive(Clone, Debug)]
struct Tensor {
    storage: Storage,
    offset: usize,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl Tensor {
    /// The values in row order; nothing if one lies outside of the data or there are more than `most`.
    ///
    /// Strides matter: some files hold permuted tensors.
    fn gather(&self, data: &[u8], most: usize) -> Option<Array> {
        let n = self.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= most)?;
        let mut values = Vec::with_capacity(n);
        for index in 0..n {
            let (mut rest, mut position) = (index, self.offset);
            for (&dim, &stride) in self.dims.iter().zip(&self.strides).rev() {
                position = position.checked_add((rest % dim).checked_mul(stride)?)?;
                rest /= dim;
            }
            let at = position.checked_mul(4)?;
            let bytes = data.get(at..at.checked_add(4)?)?;
            values.push(f32::from_le_bytes(bytes.try_into().ok()?));
        }
        Some(Array { dims: self.dims.clone(), values })
    }
}

/// The stack machine, without any means to do harm.
#[derive(Default)]
struct Machine {
    objects: Vec<Object>,
    stack: Vec<Id>,
    /// Heights of the stack where groups begin.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
}

impl Machine {
    /// Runs one pickle; returns the machine and the object it ended with.
    fn run(reader: &mut Reader) -> Result<(Self, Id)> {
        let mut machine = Self::default();
        loop {
            let at = reader.at;
            let code = reader.byte()?;
            if code == b'.' {
                let result = machine.pop()?;
                return Ok((machine, result));
            }
            machine.step(code, at, reader)?;
        }
    }

    /// One instruction; the letters are those of the pickle protocol.
    fn step(&mut self, code: u8, at: usize, reader: &mut Reader) -> Result<()> {
        match code {
            // PROTO
            0x80 => drop(reader.byte()?),
            // LONG1
            0x8a => {
                let length = reader.byte()?;
                reader.take(usize::from(length))?;
                self.push(Object::Other);
            }
            b'}' => self.push(Object::Dict(vec![])),
            b']' | b')' => self.push(Object::List(vec![])),
            b'(' => self.marks.push(self.stack.len()),
            b'q' => self.remember(u32::from(reader.byte()?))?,
            b'r' => {
                let slot = reader.u32()?;
                self.remember(slot)?;
            }
            b'h' => self.recall(u32::from(reader.byte()?))?,
            b'j' => {
                let slot = reader.u32()?;
                self.recall(slot)?;
            }
            b'X' => {
                let length = reader.u32()? as usize;
                let text = std::str::from_utf8(reader.take(length)?);
                self.push(Object::Text(text.map_err(|_| FormatError::Expected("texts in UTF-8"))?.to_owned()));
            }
            b'K' => {
                let value = reader.byte()?;
                self.push(Object::Int(i64::from(value)));
            }
            b'M' => {
                let value = reader.u16()?;
                self.push(Object::Int(i64::from(value)));
            }
            b'J' => {
                let value = reader.u32()?.cast_signed();
                self.push(Object::Int(i64::from(value)));
            }
            // NEWTRUE, NEWFALSE, NONE
            0x88 | 0x89 | b'N' => self.push(Object::Other),
            b't' => {
                let items = self.group()?;
                self.push(Object::List(items));
            }
            // TUPLE1 to TUPLE3
            0x85..=0x87 => {
                let items = self.pop_n(usize::from(code - 0x84))?;
                self.push(Object::List(items));
            }
            b'e' => {
                let items = self.group()?;
                match self.top()? {
                    Object::List(list) => list.extend(items),
                    _ => return Err(FormatError::Expected("a list to append to")),
                }
            }
            b'u' => {
                let items = self.group()?;
                self.set_items(&items)?;
            }
            b's' => {
                let items = self.pop_n(2)?;
                self.set_items(&items)?;
            }
            b'c' => {
                let (module, name) = (reader.line()?, reader.line()?);
                self.push(Object::Name(known_name(module, name)?));
            }
            // BINPERSID: what a storage is, as a tuple.
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Object::Storage(storage));
            }
            // REDUCE: the only two calls there are.
            b'R' => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let object = match self.objects[callee] {
                    Object::Name(Name::OrderedDict) => Object::Dict(vec![]),
                    Object::Name(Name::RebuildTensor) => Object::Tensor(self.rebuild(arguments)?),
                    _ => return Err(FormatError::Expected("a tensor or dictionary to be built")),
                };
                self.push(object);
            }
            // BUILD: attributes of a dictionary, which do not matter.
            b'b' => drop(self.pop()?),
            _ => return Err(FormatError::Instruction { code, at }),
        }
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    /// Takes the top off, but nothing below the last mark.
    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(FormatError::Expected("something on the stack"));
        }
        self.stack.pop().ok_or(FormatError::Expected("something on the stack"))
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Id>> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        Ok(items)
    }

    /// Takes everything above the last mark off.
    fn group(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or(FormatError::Expected("a mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Object> {
        let id = *self.stack.last().ok_or(FormatError::Expected("something on the stack"))?;
        Ok(&mut self.objects[id])
    }

    fn remember(&mut self, slot: u32) -> Result<()> {
        let id = *self.stack.last().ok_or(FormatError::Expected("something to remember"))?;
        self.memo.insert(slot, id);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<()> {
        let id = *self.memo.get(&slot).ok_or(FormatError::Expected("something remembered"))?;
        self.stack.push(id);
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        match self.top()? {
            Object::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err(FormatError::Expected("a dictionary and pairs to put into it")),
        }
    }

    /// `("storage", type, key, device, count, view)`.
    fn storage(&self, id: Id) -> Result<Storage> {
        let &[_, kind, key, _, count, ..] = self.list(id)? else {
            return Err(FormatError::Expected("a storage of five fields or more"));
        };
        let Object::Name(Name::Storage(kind)) = self.objects[kind] else {
            return Err(FormatError::Expected("a storage's type"));
        };
        let count = u64::try_from(self.int(count)?).map_err(|_| FormatError::Expected("a count of values"))?;
        self.text(key)?;
        Ok(Storage { kind, key, count })
    }

    /// `(storage, offset, shape, strides, …)`.
    fn rebuild(&self, id: Id) -> Result<Tensor> {
        let &[storage, offset, dims, strides, ..] = self.list(id)? else {
            return Err(FormatError::Expected("a tensor of four fields or more"));
        };
        let Object::Storage(storage) = self.objects[storage] else {
            return Err(FormatError::Expected("a tensor's storage"));
        };
        let size = |id: Id| usize::try_from(self.int(id)?).map_err(|_| FormatError::Expected("sizes above zero"));
        let (dims, strides) = (self.list(dims)?, self.list(strides)?);
        if dims.len() != strides.len() || dims.len() > MOST_DIMENSIONS {
            return Err(FormatError::Expected("a stride for each of at most eight dimensions"));
        }
        let sizes = |ids: &[Id]| ids.iter().map(|&id| size(id)).collect::<Result<Vec<_>>>();
        Ok(Tensor { storage, offset: size(offset)?, dims: sizes(dims)?, strides: sizes(strides)? })
    }

    fn text(&self, id: Id) -> Result<&str> {
        match &self.objects[id] {
            Object::Text(text) => Ok(text),
            _ => Err(FormatError::Expected("a text")),
        }
    }

    fn int(&self, id: Id) -> Result<i64> {
        match self.objects[id] {
            Object::Int(value) => Ok(value),
            _ => Err(FormatError::Expected("an integer")),
        }
    }

    fn list(&self, id: Id) -> Result<&[Id]> {
        match &self.objects[id] {
            Object::List(items) => Ok(items),
            _ => Err(FormatError::Expected("a list")),
        }
    }

    fn dict(&self, id: Id) -> Result<&[(Id, Id)]> {
        match &self.objects[id] {
            Object::Dict(items) => Ok(items),
            _ => Err(FormatError::Expected("a dictionary")),
        }
    }

    fn tensor(&self, id: Id) -> Result<&Tensor> {
        match &self.objects[id] {
            Object::Tensor(tensor) => Ok(tensor),
            _ => Err(FormatError::Expected("nothing but tensors in the dictionary")),
        }
    }
}

fn known_name(module: &str, name: &str) -> Result<Name> {
    match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Name::RebuildTensor),
        ("collections", "OrderedDict") => Ok(Name::OrderedDict),
        ("torch", "FloatStorage") => Ok(Name::Storage(Kind::Float)),
        ("torch", "LongStorage") => Ok(Name::Storage(Kind::Long)),
        _ => Err(FormatError::Name(format!("{module}.{name}").chars().take(100).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    const PROTOCOL_AND_SYSTEM: &[u8] = b"\x80\x02M\xe9\x03.\x80\x02}q\x00.";

    fn text(text: &str) -> Vec<u8> {
        [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
    }

    /// The instructions that put a tensor with storage `key` of `count` floats on the stack.
    fn tensor(key: &str, count: u8, offset: u8, dims: &[u8], strides: &[u8]) -> Vec<u8> {
        let sizes =
            |sizes: &[u8]| [b"(", &sizes.iter().flat_map(|&s| [b'K', s]).collect::<Vec<_>>()[..], b"t"].concat();
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text(key),
            text("cpu"),
            vec![b'K', count],
            b"NtQ".to_vec(),
            vec![b'K', offset],
            sizes(dims),
            sizes(strides),
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ]
        .concat()
    }

    /// A whole file with one tensor "w" over the values 0, 1, 2, … in storage "7".
    fn file(tensor: &[u8], n_values: u8) -> Vec<u8> {
        let mut file = [MAGIC, PROTOCOL_AND_SYSTEM, b"\x80\x02ccollections\nOrderedDict\n)R("].concat();
        file.extend([&text("w")[..], tensor, b"u.\x80\x02](", &text("7")[..], b"e."].concat());
        file.extend(u64::from(n_values).to_le_bytes());
        file.extend((0..n_values).flat_map(|v| f32::from(v).to_le_bytes()));
        file
    }

    #[test]
    fn a_permuted_tensor_is_read_by_its_strides() {
        let arrays = read(&file(&tensor("7", 7, 1, &[2, 3], &[1, 2]), 7)).expect("a good file");
        assert_eq!(arrays["w"], Array { dims: vec![2, 3], values: vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0] });
    }

    #[test]
    fn a_tensor_may_not_reach_outside_of_its_storage() {
        for (offset, dims, strides) in
            [(2, &[2, 3][..], &[3, 1][..]), (0, &[7], &[255]), (0, &[255, 255, 255], &[0, 0, 0]), (7, &[1], &[1])]
        {
            let error = read(&file(&tensor("7", 7, offset, dims, strides), 7)).expect_err("out of bounds");
            assert_eq!(error, FormatError::OutOfBounds("w".into()));
        }
    }

    #[test]
    fn only_the_names_of_weights_are_known() {
        let call = b"cos\nsystem\n(X\x02\x00\x00\x00lstR";
        assert_eq!(read(&file(call, 0)), Err(FormatError::Name("os.system".into())));
    }

    #[test]
    fn instructions_that_weights_do_not_need_are_refused() {
        for code in *b"aiogdlPpISVUF\x81\x82\x83\x84\x8b\x92\x93\x95BC" {
            let error = read(&file(&[code], 0)).expect_err("not allowed");
            assert!(matches!(error, FormatError::Instruction { code: found, .. } if found == code), "{error}");
        }
    }

    #[test]
    fn every_cut_of_a_good_file_is_refused_and_so_is_more_behind_it() {
        let good = file(&tensor("7", 7, 0, &[7], &[1]), 7);
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "{length} of {} bytes were accepted", good.len());
        }
        assert_eq!(read(&[&good[..], b"."].concat()), Err(FormatError::Trailing(good.len())));
    }

    #[test]
    fn no_changed_byte_makes_the_reader_panic() {
        let good = file(&tensor("7", 7, 0, &[7], &[1]), 7);
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                drop(read(&bad));
            }
        }
    }

    #[test]
    fn storages_may_not_claim_more_than_the_file_has() {
        let mut bad = file(&tensor("7", 7, 0, &[7], &[1]), 7);
        let at = bad.len() - 7 * 4 - 8;
        bad[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read(&bad).is_err());
    }
}
