"""What learns: one LightningModule, and the networks that it can be made of."""
