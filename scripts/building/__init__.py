"""building - what scripts/build and scripts/register are made of."""
