//! How a picture becomes a tensor, as data: the preprocessing spec travels with dataset and model.

use serde::{Deserialize, Serialize};

/// Version of the preprocessing code's meaning. A change of any pixel for any spec raises it.
pub const PREPROCESS_VERSION: u32 = 1;

/// Largest width and height a spec may ask for, in pixels.
pub const MAX_SIDE: u32 = 1024;

/// How an upright picture is brought to the spec's width and height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Scale each axis on its own; nothing is cut off, the aspect ratio is lost.
    #[default]
    Stretch,
    /// Scale until the target is covered, then cut the middle out.
    Cover,
    /// Scale until all fits, then pad with the background.
    Contain,
}

/// Resampling filter; shrinking widens its support, so it is antialiased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Triangle kernel, support 1.
    #[default]
    Bilinear,
    /// Cubic kernel with a = -0.5, support 2.
    CatmullRom,
    /// Windowed sinc, support 3.
    Lanczos3,
}

/// Colour that shows through transparent pixels and pads `Fit::Contain`: `#rrggbb` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, example = "#ffffff"))]
pub struct Background(pub [u8; 3]);

impl Background {
    /// White, the default: what a browser shows behind a transparent picture.
    pub const WHITE: Self = Self([255, 255, 255]);
}

impl Default for Background {
    fn default() -> Self {
        Self::WHITE
    }
}

impl std::fmt::Display for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

impl std::str::FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix('#').unwrap_or(text);
        let value = (hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(hex, 16).ok())
            .flatten()
            .ok_or_else(|| format!("background is {text:?}; expected six hex digits like #ffffff"))?;
        let [_, r, g, b] = value.to_be_bytes();
        Ok(Self([r, g, b]))
    }
}

impl Serialize for Background {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Background {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The whole way from an encoded picture to u8 RGB `[height, width, 3]`.
///
/// Decoding, EXIF orientation and the conversion to 8-bit RGB have no parameters; `version` stands for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PreprocessSpec {
    /// Meaning of the preprocessing code, see [`PREPROCESS_VERSION`].
    #[serde(default = "current_version")]
    pub version: u32,
    /// Pixels, 1..=[`MAX_SIDE`].
    pub width: u32,
    /// Pixels, 1..=[`MAX_SIDE`].
    pub height: u32,
    /// How the picture is brought to `width` × `height`.
    #[serde(default)]
    pub fit: Fit,
    /// Resampling filter.
    #[serde(default)]
    pub filter: Filter,
    /// Behind transparent pixels and around contained ones.
    #[serde(default)]
    pub background: Background,
}

fn current_version() -> u32 {
    PREPROCESS_VERSION
}

impl PreprocessSpec {
    /// The default way to a square of this side.
    pub fn square(side: u32) -> Self {
        Self {
            version: PREPROCESS_VERSION,
            width: side,
            height: side,
            fit: Fit::default(),
            filter: Filter::default(),
            background: Background::default(),
        }
    }

    /// Bytes of one processed picture: `height × width × 3`.
    pub fn picture_bytes(&self) -> usize {
        self.height as usize * self.width as usize * 3
    }

    /// Says what is wrong with the spec, if anything.
    pub fn validate(&self) -> Result<(), String> {
        if self.version != PREPROCESS_VERSION {
            return Err(format!(
                "preprocessing spec has version {}; this build knows version {PREPROCESS_VERSION}",
                self.version
            ));
        }
        for (name, value) in [("width", self.width), ("height", self.height)] {
            if !(1..=MAX_SIDE).contains(&value) {
                return Err(format!("{name} is {value}; expected 1 to {MAX_SIDE} pixels"));
            }
        }
        Ok(())
    }
}

/// Picture formats that are decoded; recognised by content, never by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG; the first frame of an APNG.
    Png,
    /// WebP; the first frame of an animation.
    #[serde(rename = "webp")]
    WebP,
    /// GIF, first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF, first page.
    Tiff,
}

impl Format {
    /// The registered media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Gif => "image/gif",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
        }
    }
}
