//! TIFF files written tag by tag, of the kinds that no encoder at hand writes.

use std::io::Cursor;

use tiff::{
    encoder::{Compression, Predictor, TiffEncoder, colortype::ColorType},
    tags::{PhotometricInterpretation, SampleFormat, Tag},
};

pub const PHOTOMETRIC: u16 = 262;
pub const BITS_PER_SAMPLE: u16 = 258;
pub const COMPRESSION: u16 = 259;
pub const ORIENTATION: u16 = 274;
pub const SAMPLES_PER_PIXEL: u16 = 277;
pub const COLOR_MAP: u16 = 320;
pub const EXTRA_SAMPLES: u16 = 338;
pub const YCBCR_SUBSAMPLING: u16 = 530;
pub const YCBCR_COEFFICIENTS: u16 = 529;
pub const REFERENCE_BLACK_WHITE: u16 = 532;

/// How numbers and offsets are written.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub big_endian: bool,
    pub big_tiff: bool,
}

pub const LAYOUTS: [Layout; 4] = [
    Layout { big_endian: false, big_tiff: false },
    Layout { big_endian: true, big_tiff: false },
    Layout { big_endian: false, big_tiff: true },
    Layout { big_endian: true, big_tiff: true },
];

/// Values of a tag.
#[derive(Clone, Debug)]
pub enum Values {
    Short(Vec<u16>),
    /// In thousandths.
    Rational(Vec<u32>),
}

impl Layout {
    fn number(self, value: u64, bytes: usize) -> Vec<u8> {
        let all = value.to_be_bytes();
        let mut number = all[8 - bytes..].to_vec();
        if !self.big_endian {
            number.reverse();
        }
        number
    }

    /// A file of one strip, which is its end.
    pub fn write(self, (width, height): (u16, u16), tags: &[(u16, Values)], strip: &[u8]) -> Vec<u8> {
        let offset_bytes = if self.big_tiff { 8 } else { 4 };
        let head = if self.big_tiff { 16 } else { 8 };
        let entries = tags.len() + 4;
        let directory = if self.big_tiff { 8 + entries * 20 + 8 } else { 2 + entries * 12 + 4 };

        let mut tags = tags.to_vec();
        tags.extend([(256, Values::Short(vec![width])), (257, Values::Short(vec![height]))]);
        let (mut inside, mut outside) = (vec![], vec![]);
        for (tag, values) in tags {
            let (kind, count, data) = match values {
                Values::Short(values) => {
                    let data = values.iter().flat_map(|value| self.number(u64::from(*value), 2)).collect();
                    (3, values.len(), data)
                }
                Values::Rational(values) => {
                    let fraction = |value: &u32| [self.number(u64::from(*value), 4), self.number(1000, 4)].concat();
                    (5, values.len(), values.iter().flat_map(fraction).collect::<Vec<u8>>())
                }
            };
            inside.push((tag, kind, count, data));
        }
        let too_long: usize = inside.iter().map(|(.., data)| data.len()).filter(|length| *length > offset_bytes).sum();
        let strip_at = head + directory + too_long;
        for (tag, value) in [(273, strip_at), (279, strip.len())] {
            inside.push((tag, 4, 1, self.number(value as u64, 4)));
        }
        inside.sort_by_key(|(tag, ..)| *tag);

        let mut bytes = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        bytes.extend(self.number(if self.big_tiff { 43 } else { 42 }, 2));
        if self.big_tiff {
            bytes.extend([self.number(8, 2), self.number(0, 2)].concat());
        }
        bytes.extend(self.number(head as u64, offset_bytes));
        bytes.extend(self.number(entries as u64, if self.big_tiff { 8 } else { 2 }));
        for (tag, kind, count, mut data) in inside {
            bytes.extend([self.number(u64::from(tag), 2), self.number(kind, 2)].concat());
            bytes.extend(self.number(count as u64, offset_bytes));
            if data.len() > offset_bytes {
                bytes.extend(self.number((head + directory + outside.len()) as u64, offset_bytes));
                outside.extend(data);
            } else {
                data.resize(offset_bytes, 0);
                bytes.extend(data);
            }
        }
        bytes.extend(self.number(0, offset_bytes));
        bytes.extend(outside);
        assert_eq!(bytes.len(), strip_at);
        bytes.extend(strip);
        bytes
    }
}

pub fn short(tag: u16, values: &[u16]) -> (u16, Values) {
    (tag, Values::Short(values.to_vec()))
}

/// Samples of a few bits, every row filled up to whole bytes.
pub fn pack(samples: &[u8], width: usize, bits: usize) -> Vec<u8> {
    let pack_byte =
        |few: &[u8]| few.iter().enumerate().fold(0, |byte, (at, sample)| byte | sample << (8 - bits * (at + 1)));
    samples.chunks(width).flat_map(|row| row.chunks(8 / bits)).map(pack_byte).collect()
}

/// A palette in the order of a colour map, every 8-bit value made into one of 16 bits by `widen`.
pub fn color_map(colors: &[[u8; 3]], widen: impl Fn(u16) -> u16) -> (u16, Values) {
    let widen = &widen;
    let map = (0..3).flat_map(|channel| colors.iter().map(move |color| widen(u16::from(color[channel]))));
    (COLOR_MAP, Values::Short(map.collect()))
}

/// Indices of 8 bits in several compressed strips.
pub fn compressed_palette(
    (width, height): (u32, u32),
    colors: &[[u8; 3]],
    indices: &[u8],
    compression: Compression,
    predictor: Predictor,
) -> Vec<u8> {
    struct Indexed;
    impl ColorType for Indexed {
        type Inner = u8;
        const TIFF_VALUE: PhotometricInterpretation = PhotometricInterpretation::RGBPalette;
        const BITS_PER_SAMPLE: &'static [u16] = &[8];
        const SAMPLE_FORMAT: &'static [SampleFormat] = &[SampleFormat::Uint];

        fn horizontal_predict(row: &[u8], result: &mut Vec<u8>) {
            result.extend(row.first());
            result.extend(row.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
        }
    }
    let mut file = Cursor::new(vec![]);
    let encoder = TiffEncoder::new(&mut file).unwrap();
    let mut encoder = encoder.with_compression(compression).with_predictor(predictor);
    let mut page = encoder.new_image::<Indexed>(width, height).unwrap();
    let (_, Values::Short(map)) = color_map(colors, |value| value * 257) else { unreachable!() };
    page.encoder().write_tag(Tag::ColorMap, &map[..]).unwrap();
    page.rows_per_strip(3).unwrap();
    page.write_data(indices).unwrap();
    file.into_inner()
}
