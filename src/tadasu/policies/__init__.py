"""The bundled policies and the schema that every policy file is held against."""
