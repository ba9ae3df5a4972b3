"""Methods that compare features of networks pretrained on ImageNet."""
