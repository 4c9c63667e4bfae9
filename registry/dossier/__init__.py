"""The dossier: the evidence of a comparison, for a reviewer who is no data scientist."""
