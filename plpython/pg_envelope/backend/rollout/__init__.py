"""protect() and unprotect() with online: the table stays in use while its values change their form."""
