"""What may be made of a method's map after its maps were made, without a label: masks drawn by SAM."""
