"""The Hugging Face Trainer, watched: `Trainer(..., callbacks=[HuggingFaceCallback()])`.

Run with transformers 5.24.0 and accelerate 1.15.0. Its classifier ends in a softmax before the
cross entropy, which is found at the first step.
"""

import torch
import transformers

from ravine.callbacks import HuggingFaceCallback


def main() -> None:
    """Train a small BERT on a synthetic task."""
    ids = torch.randint(5, 50, (128, 6))
    examples = [{"input_ids": row, "labels": (row[0] > 25).long()} for row in ids]
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=2
    )
    model = transformers.BertForSequenceClassification(config)
    model.classifier = torch.nn.Sequential(model.classifier, torch.nn.Softmax(1))
    settings = transformers.TrainingArguments("runs/bert", num_train_epochs=3, report_to=[])
    callback = HuggingFaceCallback()
    transformers.Trainer(
        model=model, args=settings, train_dataset=examples, callbacks=[callback]
    ).train()


if __name__ == "__main__":
    main()
