"""What people say about pictures: tasks out, answers in, agreement and judge cards from them."""
