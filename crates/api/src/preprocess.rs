//! HTTP contract of the preprocess function.

use std::borrow::Cow;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};

use crate::{ErrorCode, ErrorDetail, Format, PreprocessSpec};

/// Writes padding; reads base64 with or without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Media type of the compact answer: one safetensors file with the tensor `images`, u8
/// `[n_processed, height, width, 3]`, and the JSON of [`BatchAnswer`] (without `image` fields) under the
/// metadata key `answer`. Rows follow the entries that have no error, in order.
pub const SAFETENSORS: &str = "application/x-safetensors";

/// Side of the default square, in pixels.
pub const DEFAULT_SIDE: u32 = 224;

/// Body of `POST /` with `Content-Type: application/json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchRequest {
    /// The pictures.
    pub images: Vec<EncodedImage>,
    /// How to process them; a square of [`DEFAULT_SIDE`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<PreprocessSpec>,
}

/// One picture inside a JSON request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EncodedImage {
    /// Comes back with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Base64 of the file's bytes; a `data:` URL is accepted too.
    pub image: String,
}

impl EncodedImage {
    /// Encodes a file's bytes.
    pub fn new(name: Option<String>, bytes: &[u8]) -> Self {
        Self { name, image: BASE64.encode(bytes) }
    }

    /// The file's bytes. Line breaks inside the base64 and missing padding are forgiven.
    ///
    /// # Errors
    /// `BadRequest` if the text is neither base64 nor a `data:` URL of base64
    pub fn decode(&self) -> Result<Vec<u8>, ErrorDetail> {
        let mut text = self.image.trim_ascii();
        if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
            let data = text.split_once(',').filter(|(header, _)| {
                let marker = header.rsplit(';').next().unwrap_or_default();
                marker.trim_ascii().eq_ignore_ascii_case("base64")
            });
            let Some((_, data)) = data else {
                let message = "the data: URL is not base64; expected data:<media type>;base64,<data>";
                return Err(ErrorDetail::new(ErrorCode::BadRequest, message));
            };
            text = data;
        }
        let text: Cow<'_, str> = if text.bytes().any(|b| b.is_ascii_whitespace()) {
            text.split_ascii_whitespace().collect::<String>().into()
        } else {
            text.into()
        };
        BASE64.decode(text.as_bytes()).map_err(|e| {
            let message =
                format!("image is not base64: {}; send the file's bytes as base64", e.to_string().to_lowercase());
            ErrorDetail::new(ErrorCode::BadRequest, message)
        })
    }
}

impl Format {
    /// A file's bytes as a `data:` URL of this format's media type.
    pub fn data_url(self, bytes: &[u8]) -> String {
        let mut url = format!("data:{};base64,", self.media_type());
        BASE64.encode_string(bytes, &mut url);
        url
    }
}

/// Answer to a batch: one entry per picture, in the order given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchAnswer {
    /// How the pictures were processed.
    pub spec: PreprocessSpec,
    /// One entry per picture.
    pub images: Vec<Entry>,
}

/// What became of one picture: either everything about it, or an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Entry {
    /// As given in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Either a processed picture or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Outcome {
    /// The picture could not be processed.
    Failed {
        /// Why.
        error: ErrorDetail,
    },
    /// The picture was processed.
    Processed(Processed),
}

/// A processed picture and what is known of the original.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Processed {
    /// Base64 of the processed picture as PNG; absent in the compact form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Facts about the original.
    #[serde(flatten)]
    pub facts: Facts,
}

/// What is known of an original picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Facts {
    /// Upright width of the original in pixels.
    pub width: u32,
    /// Upright height of the original in pixels.
    pub height: u32,
    /// Format by content.
    pub format: Format,
    /// SHA-256 of the file's bytes, 64 hex digits.
    pub content_hash: String,
    /// Perceptual hash of the upright picture, 16 hex digits; near pictures differ in few bits.
    pub perceptual_hash: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn decodes(text: &str) {
        let image = EncodedImage { name: None, image: text.to_owned() };
        assert_eq!(image.decode().expect(text), [0xfb, 0xff, 0x00, 0x10]);
    }

    #[track_caller]
    fn refused(text: &str, sentence: &str) {
        let image = EncodedImage { name: None, image: text.to_owned() };
        let error = image.decode().expect_err(text);
        assert_eq!(error.code, ErrorCode::BadRequest);
        assert!(error.message.contains(sentence), "{}", error.message);
    }

    #[test]
    fn base64_is_read_as_clients_write_it() {
        decodes("+/8AEA==");
        decodes("+/8AEA");
        decodes(" +/8A\r\nEA==\n");
        decodes("data:image/png;base64,+/8AEA==");
        decodes("DATA:;BASE64,+/8A EA==");
    }

    #[test]
    fn what_is_not_base64_is_a_bad_request() {
        refused("+/8AE!==", "not base64");
        refused("-_8AEA==", "not base64");
        refused("data:image/png,raw", "data: URL");
        refused("data:image/png;base64", "data: URL");
        refused("Ω:🦀", "not base64");
    }

    #[test]
    fn an_encoded_image_decodes_to_its_bytes() {
        for length in 0..5u8 {
            let bytes: Vec<u8> = (0..length).map(|b| b ^ 0xa5).collect();
            assert_eq!(EncodedImage::new(None, &bytes).decode().expect("base64"), bytes);
        }
        assert_eq!(Format::Tiff.data_url(&[0xfb, 0xff]), "data:image/tiff;base64,+/8=");
    }
}
