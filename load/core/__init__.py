"""What all loads share: what is asked, over which protocol, whether the answer is right, how it is counted."""
