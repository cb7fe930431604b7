//! What is seen of a model's answer while it is made: how sure the model is of the next token.

pub mod logits;
