"""What the hardware does meanwhile: readings of this node, its description, and how its cores are shared out."""
